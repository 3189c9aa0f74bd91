import { createHash } from 'node:crypto';
import {
  existsSync,
  lstatSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  utimesSync,
} from 'node:fs';
import { basename, join } from 'node:path';
import { parseUpdateKey, type UpdateId, updateKey } from '../../lib/announcement/update.ts';
import { describeError } from '../../lib/errors.ts';
import { listAccepted, readAccepted } from '../../lib/state/facts.ts';
import { outcomesDir, updatesDir } from '../../lib/state/layout.ts';
import { type Progress, readProgress } from '../../lib/state/progress.ts';
import type { State } from '../../lib/state/states.ts';
import { listDirectory } from '../../lib/system/directory.ts';
import { type CrashNode, walk } from './crash-node.ts';
import type { Invariant } from './result.ts';

/** Required end of an update on one side of the node. */
export interface Expected {
  id: UpdateId;
  side: 'advance' | 'apply';
  states: readonly State[];
}

/** Names of temporary files, which a writer makes before it renames them. */
const temporaryName = /^\.(tmp-|p2p-update-)/;

export type Found = { invariant: Invariant; detail: string }[];

/** Durable facts at one instant, to be compared with later ones. */
export interface Snapshot {
  /** The keys of all updates that were applied. */
  applied: string[];
  accepted: string[];
  effects: string;
  runs: number;
}

/** Durable facts of the node as a reader finds them; an unreadable one counts as absent. */
export function takeSnapshot(node: CrashNode): Snapshot {
  const { stateDir, applyDir } = node.config;
  const outcomes = listDirectory(outcomesDir(applyDir)).flatMap(
    (name) => parseUpdateKey(name) ?? [],
  );
  return {
    applied: outcomes
      .filter((id) => quietProgress(outcomesDir(applyDir), id)?.state === 'APPLIED')
      .map(updateKey),
    accepted: listAccepted(stateDir)
      .filter((id) => readAccepted(stateDir, id) !== undefined)
      .map(updateKey),
    effects: describeEffects(node),
    runs: runsOf(node).length,
  };
}

function quietProgress(directory: string, id: UpdateId): Progress | undefined {
  try {
    return readProgress(directory, id);
  } catch {
    return undefined;
  }
}

/** One line for each real run of Puppet: the update, and the SHA-256 of the content. */
export function runsOf({ directory }: CrashNode): string[] {
  const file = join(directory, 'etc', 'runs');
  return existsSync(file) ? readFileSync(file, 'utf8').trimEnd().split('\n') : [];
}

/** Effects of apply, down to inodes: applying again makes another text, cleaning up does not. */
function describeEffects(node: CrashNode): string {
  const { deliveryDir, applyDir, puppet } = node.config;
  const files = listLasting(deliveryDir).map((name) => {
    const { ino, mtimeMs } = lstatSync(join(deliveryDir, name));
    return `${name} ${ino} ${mtimeMs}`;
  });
  const links = listLasting(puppet.moduleDir).map(
    (name) => `${name} ${readlinkSync(join(puppet.moduleDir, name))}`,
  );
  const keySets = listLasting(join(applyDir, 'keysets')).map(
    (name) => `${name} ${lstatSync(join(applyDir, 'keysets', name)).ino}`,
  );
  return [...files, ...links, ...keySets, ...runsOf(node)].join('\n');
}

/** Names in a directory, without the temporary files of killed writers. */
function listLasting(directory: string): string[] {
  return listDirectory(directory).filter((name) => !temporaryName.test(name));
}

/** Makes the temporary files of killed writers look old enough to be removed. */
export function ageLeftOvers(node: CrashNode): void {
  const old = Date.now() / 1000 - 1200;
  for (const path of walk(node.directory)) if (isTemporary(path)) utimesSync(path, old, old);
}

function isTemporary(path: string): boolean {
  return temporaryName.test(basename(path)) && !lstatSync(path).isSymbolicLink();
}

/** Checks the invariants that must hold after the last reconcile. */
export function checkEnd(
  node: CrashNode,
  expected: readonly Expected[],
  before: Snapshot,
  between: Snapshot,
): Found {
  const after = takeSnapshot(node);
  // A past update may be removed as soon as it has ended.
  const stays = expected.filter((each) => !hasEnded(each)).map(({ id }) => updateKey(id));
  const staying = (keys: readonly string[]): string[] => keys.filter((key) => stays.includes(key));
  const found: Found = [
    ...gone('accepted', staying(before.accepted), after.accepted),
    ...gone('APPLIED', staying(before.applied), after.applied),
    ...expected.flatMap((each) => checkState(node, each)),
    ...checkRecords(node),
    ...checkLeftOvers(node, expected),
    ...checkContents(node),
    ...checkApplied(node, expected),
  ];
  for (const [snapshot, when] of [
    [before, 'at the interruption'],
    [between, 'after the first reconcile'],
  ] as const) {
    const isAllApplied = after.applied.every((key) => snapshot.applied.includes(key));
    if (isAllApplied && after.applied.length > 0 && snapshot.effects !== after.effects)
      found.push({
        invariant: 'doubleApplied',
        detail: `all was APPLIED ${when}:\n${snapshot.effects}\nand later:\n${after.effects}`,
      });
  }
  return found;
}

function gone(what: string, before: readonly string[], after: readonly string[]): Found {
  return before
    .filter((key) => !after.includes(key))
    .map((key) => ({ invariant: 'lost', detail: `${key} was ${what}, and is no more` }));
}

const hasEnded = ({ states }: Expected): boolean =>
  states.some((state) => ['SUPERSEDED', 'WITHDRAWN', 'EXPIRED'].includes(state));

function checkState(node: CrashNode, each: Expected): Found {
  const { id, side, states } = each;
  const { stateDir, applyDir } = node.config;
  const directory = side === 'advance' ? updatesDir(stateDir) : outcomesDir(applyDir);
  const state = quietProgress(directory, id)?.state;
  if (state === undefined ? hasEnded(each) : states.includes(state)) return [];
  const detail = `${side}: ${updateKey(id)} is ${state ?? 'nowhere'}, not ${states.join(' or ')}`;
  return [{ invariant: 'notConverged', detail }];
}

/** Checks that every record can be read, and that none was set aside. */
function checkRecords(node: CrashNode): Found {
  const { stateDir, applyDir } = node.config;
  const found: Found = [];
  for (const directory of [updatesDir(stateDir), outcomesDir(applyDir)])
    for (const id of listDirectory(directory).flatMap((name) => parseUpdateKey(name) ?? []))
      try {
        readProgress(directory, id);
      } catch (error) {
        found.push({ invariant: 'notConverged', detail: describeError(error) });
      }
  for (const id of listAccepted(stateDir))
    if (readAccepted(stateDir, id) === undefined)
      found.push({ invariant: 'lost', detail: `announcement ${updateKey(id)} cannot be read` });
  for (const path of walk(node.directory).filter((each) => each.endsWith('.corrupt')))
    found.push({ invariant: 'notConverged', detail: `${path}: a record was torn` });
  return found;
}

/** Checks that no temporary file, staged copy or half module is left that is not needed. */
function checkLeftOvers(node: CrashNode, expected: readonly Expected[]): Found {
  const { applyDir } = node.config;
  const isOpen = expected.some(({ states }) => states.some((state) => openStates.includes(state)));
  const staged = isOpen ? [] : listDirectory(join(applyDir, 'staging'));
  const modules = listDirectory(join(applyDir, 'modules'));
  return [
    ...walk(node.directory).filter((path) => temporaryName.test(basename(path))),
    ...staged.map((name) => `staging/${name}`),
    ...(modules.length > 1 ? modules.map((name) => `modules/${name}`) : []),
  ].map((path) => ({ invariant: 'notConverged', detail: `left over: ${path}` }));
}

const openStates: readonly State[] = ['STAGED', 'APPLYING', 'FAILED', 'QUEUED'];

/** Checks that every file delivered, run or installed was announced. */
function checkContents(node: CrashNode): Found {
  return contentsOf(node)
    .filter(([, digest]) => !node.announced.has(digest))
    .map(([what]) => ({ invariant: 'unverifiedApplied', detail: `${what}: it was not announced` }));
}

/** Checks that every update recorded as APPLIED was applied. */
function checkApplied(node: CrashNode, expected: readonly Expected[]): Found {
  const found = new Set(contentsOf(node).map(([, digest]) => digest));
  return expected.flatMap(({ id, states }): Found => {
    const digest = node.shows.get(updateKey(id));
    if (!states.includes('APPLIED') || digest === undefined || found.has(digest)) return [];
    return [{ invariant: 'lost', detail: `${updateKey(id)} was not applied: no ${digest}` }];
  });
}

/** Name and SHA-256 of every file delivered, manifest run, and manifest of a module installed. */
function contentsOf(node: CrashNode): (readonly [what: string, digest: string])[] {
  const { deliveryDir, puppet } = node.config;
  const sha256 = (file: string): string =>
    createHash('sha256').update(readFileSync(file)).digest('hex');
  return [
    ...listLasting(deliveryDir).map((name) => [name, sha256(join(deliveryDir, name))] as const),
    ...runsOf(node).map((line) => [line, /[0-9a-f]{64}/.exec(line)?.[0] ?? ''] as const),
    ...listLasting(puppet.moduleDir).flatMap((name) => {
      const manifests = join(puppet.moduleDir, name, 'manifests');
      return readdirSync(manifests).map(
        (file) => [`${name}/${file}`, sha256(join(manifests, file))] as const,
      );
    }),
  ];
}
