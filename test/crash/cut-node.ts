import { cpSync, mkdirSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { nameOf, type Update } from '../../lib/announcement/update.ts';
import { describeError } from '../../lib/errors.ts';
import { readAccepted } from '../../lib/state/facts.ts';
import { outcomesDir } from '../../lib/state/layout.ts';
import { isMarked } from '../../lib/state/markers.ts';
import { readProgress } from '../../lib/state/progress.ts';
import { serfEnvironment } from '../support/fleet/serf-environment.ts';
import { mustRun, runSync } from '../support/run/command.ts';
import { programArgv } from '../support/run/program.ts';
import { type CrashNode, makeCrashNode } from './crash-node.ts';
import type { CutDisk, DiskImage } from './cut-image.ts';
import type { Ended } from './cut-pauses.ts';
import type { Breach } from './kill-verdict.ts';
import { readText } from './read-text.ts';

/** Promise of a program for an update, made by ending with 0. */
export type Promised = 'fact' | 'marker' | 'applied';

/** An update, and its effect on a node. */
export interface CutUpdate {
  update: Update;
  content: string | Buffer;
  /** Text of the file or of the module's class; null: the stand-in for Puppet notes its runs. */
  effect: string | null;
  promised: Set<Promised>;
}

/** A node on a disk image, and Puppet's stand-in outside of it, whose notes a power cut spares. */
export interface CutNode {
  node: CrashNode;
  image: DiskImage;
  puppetDir: string;
  /** Runs one of its programs as it is. */
  run(program: string, env?: Record<string, string>, input?: string): Ended;
  /** Command and environment of a program, for another starter. */
  command(program: string): { argv: string[]; env: Record<string, string> };
}

/**
 * @param directory outside of the image
 * @param dist where its programs are
 */
export function makeCutNode(image: DiskImage, directory: string, dist: string): CutNode {
  const node = makeCrashNode(join(image.place, 'node'), dist);
  const puppetDir = join(directory, 'puppet');
  rmSync(puppetDir, { recursive: true, force: true });
  mkdirSync(puppetDir, { recursive: true });
  for (const name of ['puppet', 'exit'])
    cpSync(join(node.directory, 'etc', name), join(puppetDir, name));
  node.config.puppet.command = join(puppetDir, 'puppet');
  writeFileSync(node.configFile, JSON.stringify(node.config));
  mkdirSync(join(node.config.applyDir, 'complete'), { mode: 0o730, recursive: true });
  flush(image);
  const command: CutNode['command'] = (program) => ({
    argv: programArgv(program, dist),
    env: serfEnvironment(node.configFile),
  });
  return {
    ...{ node, image, puppetDir, command },
    run(program, env = {}, input = '') {
      const { argv, env: own } = command(program);
      const { status, stderr } = runSync(argv, { env: { ...own, ...env }, input });
      return { status, stderr };
    },
  };
}

/** Flushes the preparations of a test before the power is cut. */
export function flush({ place }: DiskImage): void {
  mustRun(['sync', '-f', place]);
}

/** Checks that the effects promised for an update are on a disk. */
export function brokenPromises(
  on: CutNode,
  disk: CutDisk,
  { update, promised }: CutUpdate,
): Breach[] {
  const stateDir = on.node.config.stateDir.replace(on.image.place, disk.place);
  const applyDir = on.node.config.applyDir.replace(on.image.place, disk.place);
  const lost = (what: string): Breach => ({
    invariant: 'lost',
    text: `${nameOf(update)}: ${what} is not on the disk`,
  });
  try {
    const outcome = readProgress(outcomesDir(applyDir), update);
    const broken: Breach[] = [];
    if (promised.has('fact') && readAccepted(stateDir, update)?.payload !== update.payload)
      broken.push(lost('the accepted announcement'));
    // Once it is staged the marker has served.
    if (promised.has('marker') && outcome === undefined && !isMarked(applyDir, update.infoHash))
      broken.push(lost('the completion marker'));
    if (promised.has('applied') && outcome?.state !== 'APPLIED') broken.push(lost('APPLIED'));
    return broken;
  } catch (error) {
    return [{ invariant: 'lost', text: `${nameOf(update)}: ${describeError(error)}` }];
  }
}

/** Lets a cut disk recover by at most two runs of apply, and checks the result. */
export function recover(on: CutNode, disk: CutDisk, { update, effect }: CutUpdate): Breach[] {
  const { node, image, puppetDir } = on;
  const applyDir = node.config.applyDir.replace(image.place, disk.place);
  const stateNow = (): string | undefined => readProgress(outcomesDir(applyDir), update)?.state;
  const before = stateNow();
  const after = `${puppetDir}-after`;
  rmSync(after, { recursive: true, force: true });
  cpSync(puppetDir, after, { recursive: true });
  rmSync(join(after, 'runs'), { force: true });
  const { argv, env } = on.command('p2p-update.cjs apply');
  const runs = [1, 2].map(() => disk.run(argv, env, { [puppetDir]: after }));

  const name = nameOf(update);
  const noted = (readText(join(after, 'runs')) ?? '').split('\n').filter(Boolean);
  const breaches: Breach[] = [];
  if (stateNow() !== 'APPLIED') {
    const how = runs.map(({ status, stderr }) => `${String(status)} ${stderr}`).join('; ');
    breaches.push({
      invariant: 'notConverged',
      text: `${name} is ${stateNow() ?? 'not begun'}: ${how}`,
    });
  }
  if (before === 'APPLIED' && noted.length > 0)
    breaches.push({ invariant: 'doubleApplied', text: `${name} ran again: ${noted.join(', ')}` });
  const strange = noted.filter((line) => !node.announced.has(line.split(/\s+/)[1] ?? ''));
  if (strange.length > 0)
    breaches.push({ invariant: 'unverifiedApplied', text: `${name}: ${strange.join(', ')}` });
  const found = effectOn(on, disk, update);
  if (effect !== null && found !== effect)
    breaches.push({
      invariant: found === undefined ? 'lost' : 'unverifiedApplied',
      text: `${name} has left ${JSON.stringify(found?.slice(0, 80))}`,
    });
  return breaches;
}

/** Effect of an update on a disk. */
function effectOn(on: CutNode, disk: CutDisk, update: Update): string | undefined {
  const at = (path: string): string => path.replace(on.image.place, disk.place);
  const { deliveryDir, puppet } = on.node.config;
  if (update.kind === 'file') return readText(at(join(deliveryDir, update.name)));
  if (update.kind !== 'module') return undefined;
  return readText(
    at(join(readlinkSync(at(join(puppet.moduleDir, 'hello'))), 'manifests', 'init.pp')),
  );
}
