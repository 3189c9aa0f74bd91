import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { distDirectory } from '../../lib/build.ts';
import { hookFile } from '../../lib/config.ts';
import { UpdateError } from '../../lib/errors.ts';
import { nodeUser } from '../../lib/state/layout.ts';
import { print, printJson } from '../cli/output.ts';
import { debianPlaces } from '../doctor/file-checks.ts';
import type { SetupRequest } from './arguments.ts';
import { readMachine } from './machine.ts';
import { programLink } from './program-link.ts';
import type { Machine } from './rules.ts';
import { cronFile, dropIn, unitDirectory, wakers } from './scheduler.ts';
import { serfFile, serfKeysFile } from './serf-plan.ts';
import { serfDefaults } from './services.ts';

/** Files that set-up makes. */
const files = [
  ...wakers.map((unit) => join(unitDirectory, unit)),
  ...[dropIn, cronFile, serfFile, serfKeysFile],
];
/** Directories that it makes, with what is left in them: private keys, and delivered files. */
const kept: Readonly<Record<string, string>> = {
  '/etc/p2p-update': 'keys',
  '/var/lib/p2p-update': 'files',
};

/**
 * Takes back what set-up has made on this machine: the same shell functions as the package's purge, which has to
 * work without the program.
 *
 * @param requireYes throws UpdateError where the person does not want it
 * @throws UpdateError `usage` for an image, `internal` when a step failed
 */
export function removeNode(request: SetupRequest, requireYes: (question: string) => void): void {
  const { root, dryRun, json } = request;
  if (root !== '/')
    throw new UpdateError('usage', '--remove works on this machine, not on an image', {
      hint: 'write the image anew, or run it on the machine',
    });
  const ownDir = dirname(distDirectory());
  const machine = readMachine('/');
  const link = machine.follow(programLink)?.startsWith(`${ownDir}/`) === true ? [programLink] : [];
  const found = [...foundOf(machine), ...link];
  if (!json)
    print(
      found.length === 0
        ? 'nothing to do\n'
        : `Taken back, after the run that is at work has ended:\n${found.map((each) => `  ${each}\n`).join('')}`,
    );
  if (!dryRun && found.length > 0) {
    requireYes('Take this node out, and restart Serf and Transmission without it?');
    forget(join(ownDir, 'scripts', 'setup'), link, json);
  }
  if (json) printJson({ dryRun, root, removed: found });
}

function foundOf({ look, list, read, users }: Machine): string[] {
  const has = (file: string, text: string): boolean => read(file)?.includes(text) === true;
  // Leftovers on purpose are no work for the next removal.
  const isLeft = (path: string): boolean =>
    list(path).every((name) => path in kept && name === kept[path]);
  return [
    ...files.filter((path) => look(path) !== undefined),
    ...Object.keys(kept).filter((path) => look(path) !== undefined && !isLeft(path)),
    ...(has(serfDefaults, nodeUser) ? [`the user of Serf in ${serfDefaults}`] : []),
    ...(has(debianPlaces.settingsFile, hookFile.slice(hookFile.lastIndexOf('/')))
      ? [`the hook in ${debianPlaces.settingsFile}`]
      : []),
    ...(users.has(nodeUser) ? [`the user ${nodeUser}`] : []),
  ];
}

function forget(directory: string, links: readonly string[], json: boolean): void {
  const parts = ['stop.sh', 'forget.sh'].map((name) => readFileSync(join(directory, name), 'utf8'));
  const script = ['set -e', ...parts, 'stop_and_wait', 'rm -f "$record" "$@"', 'forget_node keep'];
  const { status, error } = spawnSync('/bin/sh', ['-c', script.join('\n'), 'sh', ...links], {
    // Its words are for a person; with --json standard output has one object.
    stdio: ['ignore', json ? process.stderr : 'inherit', 'inherit'],
    env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C' },
    cwd: '/',
  });
  if (error === undefined && status === 0) return;
  throw new UpdateError(
    'internal',
    `a part of the node is left (exit status ${status ?? 'none'})`,
    {
      hint: 'correct the cause, which is named above, then run setup --remove again',
      cause: error,
    },
  );
}
