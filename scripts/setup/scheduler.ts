import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Config, hookFile } from '../../lib/config.ts';
import { nodeUser, type Ownership } from '../../lib/state/layout.ts';
import type { Scheduler } from './arguments.ts';
import { type PlannedFile, publicFile, publicProgram } from './plan.ts';
import type { Machine } from './rules.ts';

export const unitDirectory = '/etc/systemd/system';
/** Units of the Debian package (scripts/package), made of the same templates for the default paths. */
export const packagedUnitDirectory = '/usr/lib/systemd/system';
export const cronFile = '/etc/cron.d/p2p-update';
export const dropIn = `${unitDirectory}/serf.service.d/p2p-update.conf`;
/** Units to enable; each starts the service of its name. */
export const wakers = [
  'p2p-update-advance.path',
  'p2p-update-advance.timer',
  'p2p-update-apply.path',
  'p2p-update-apply.timer',
];
const services = ['p2p-update-advance.service', 'p2p-update-apply.service'];

/** The scheduler of a machine: systemd where it runs or, in an image, where it is installed; else cron. */
export function detectScheduler(root: string, { look }: Machine): Scheduler {
  const signs = ['/usr/lib/systemd/systemd', '/lib/systemd/systemd'];
  const places = root === '/' ? ['/run/systemd/system'] : signs;
  return places.some((path) => look(path) !== undefined) ? 'systemd' : 'cron';
}

/**
 * The files that wake this node, Transmission's hook and the scheduler's, with this node's paths: where they
 * belong, and their text. A unit that the Debian package has with the same text is none of them, unless
 * there is one in its place.
 */
export function schedulerFiles(
  scheduler: Scheduler,
  codeDir: string,
  templateDir: string,
  { stateDir, applyDir }: Config,
  { look, read }: Pick<Machine, 'look' | 'read'>,
): PlannedFile[] {
  const fill = (template: string): string =>
    readFileSync(join(templateDir, template), 'utf8')
      .replaceAll('@CODE@', codeDir)
      .replaceAll('@STATE@', stateDir)
      .replaceAll('@APPLY@', applyDir);
  const file = (path: string, template: string): PlannedFile => ({
    path,
    ownership: publicFile,
    text: fill(template),
  });
  const hook = { ...file(hookFile, 'transmission-done.sh'), ownership: publicProgram };
  if (scheduler === 'cron') return [hook, file(cronFile, 'p2p-update.cron')];
  const isPackaged = (unit: string): boolean =>
    look(join(unitDirectory, unit)) === undefined &&
    read(join(packagedUnitDirectory, unit)) === fill(unit);
  const units = [...wakers, ...services]
    .filter((unit) => !isPackaged(unit))
    .map((unit) => file(join(unitDirectory, unit), unit));
  return [hook, ...units, file(dropIn, 'serf.service.conf')];
}

/** Serf's snapshot: systemd makes its directory by itself (StateDirectory=). */
export function schedulerDirectories(scheduler: Scheduler): Record<string, Ownership> {
  if (scheduler === 'systemd') return {};
  return { '/var/lib/serf': { owner: nodeUser, group: nodeUser, mode: 0o700 } };
}
