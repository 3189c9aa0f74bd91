import { dirname, join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { type Config, defaultConfigFile, parseConfig } from '../../lib/config.ts';
import { UpdateError } from '../../lib/errors.ts';
import {
  applyDirectories,
  applyDirOwnership,
  deliveryDirOwnership,
  hasOwnership,
  nodeUser,
  type Ownership,
  stateDirectories,
  stateDirOwnership,
  transmissionUser,
  trustedApplyDirectories,
} from '../../lib/state/layout.ts';
import { isRecord } from '../../lib/system/json.ts';
import {
  ancestorsOf,
  type Found,
  type Machine,
  requireApart,
  requireRootOnly,
  requireRootsContent,
  requireSafePath,
  requireSameKeySet,
  requireType,
} from './rules.ts';

/** A file as it is to be; its directory is root's. */
export interface PlannedFile {
  path: string;
  ownership: Ownership;
  text: string;
}

/** The wanted state of a machine, besides the directories of its configuration. */
export interface SetupWish {
  /** Members of config.json, into which they are merged: objects grow, other values replace. */
  config: Readonly<Record<string, unknown>>;
  /** Private keys of a new fleet: on disk before the key set that trusts them. */
  keyFiles: readonly PlannedFile[];
  /** The text of the fleet's key set, null when it is not to be placed now. */
  keySet: string | null;
  /** Files besides, in their order. */
  files: (config: Config) => readonly PlannedFile[];
  /** Directories besides those of the configuration. */
  directories: Readonly<Record<string, Ownership>>;
}

export type SetupStep =
  | { kind: 'add-user'; user: string }
  | { kind: 'add-to-group'; user: string; group: string }
  | { kind: 'make-directory'; path: string; ownership: Ownership }
  | { kind: 'correct'; path: string; ownership: Ownership; found: Found }
  | WriteStep
  | { kind: 'make-link'; path: string; target: string }
  | SettingsStep
  | ServiceStep;

/** Writes a file of root's; `old` is its text of before, undefined where there is none. */
export interface WriteStep extends PlannedFile {
  kind: 'write-file';
  old: string | undefined;
}

/** Replaces a file of a daemon's user, with the rights of that user alone: it may place links there. */
export interface SettingsStep {
  kind: 'write-settings';
  path: string;
  user: string;
  text: string;
  old: string | undefined;
}

/** Has the manager of services do something; `reload` is its own configuration. */
export interface ServiceStep {
  kind: 'service';
  verb: 'reload' | 'enable' | 'disable' | 'stop' | 'start' | 'restart';
  units: readonly string[];
  why: string;
}

export interface SetupPlan {
  config: Config;
  steps: SetupStep[];
}

const publicDirectory: Ownership = { owner: 'root', group: 'root', mode: 0o755 };
const secretDirectory: Ownership = { owner: 'root', group: 'root', mode: 0o700 };
export const publicFile: Ownership = { owner: 'root', group: 'root', mode: 0o644 };
export const publicProgram: Ownership = { owner: 'root', group: 'root', mode: 0o755 };
/** A secret of the node: root and its user read it. */
export const secretFile: Ownership = { owner: 'root', group: nodeUser, mode: 0o640 };

/**
 * Decides the steps that make a machine a node; none when it is one already. Only the machine's look,
 * read and list are called, and the steps are to be taken in order.
 *
 * @throws UpdateError `configuration` when something is in the way that must not be repaired by a
 *   program, `refused` for a key set that is not the one in place, `malformed` for one that is none
 */
export function planSetup(wish: SetupWish, machine: Machine): SetupPlan {
  const { text: configText, config } = planConfig(wish, machine.read(defaultConfigFile));
  const steps = planAccounts(machine);
  const planned = new Set<string>();
  const { look } = machine;

  const ensureDirectory = (path: string, ownership: Ownership): void => {
    requireSafePath(path);
    if (planned.has(path)) return;
    ensureParents(path);
    planned.add(path);
    const found = look(path);
    if (found === undefined) steps.push({ kind: 'make-directory', path, ownership });
    else correct(path, ownership, found, 'directory');
  };
  const ensureParents = (path: string): void => {
    for (const parent of ancestorsOf(path)) {
      if (planned.has(parent)) continue;
      const found = look(parent);
      if (found === undefined) ensureDirectory(parent, publicDirectory);
      else requireRootOnly(parent, found);
    }
  };
  const correct = (path: string, ownership: Ownership, found: Found, type: Found['type']): void => {
    requireType(path, found, type);
    if (!hasOwnership(found, ownership, machine))
      steps.push({ kind: 'correct', path, ownership, found });
  };
  const ensureFile = ({ path, ownership, text }: PlannedFile): void => {
    ensureParents(path);
    const found = look(path);
    if (found !== undefined) requireType(path, found, 'file');
    const old = found === undefined ? undefined : (machine.read(path) ?? '');
    if (found !== undefined && old === text) correct(path, ownership, found, 'file');
    else steps.push({ kind: 'write-file', path, ownership, text, old });
  };
  const ensureExisting = (path: string, ownership: Ownership): void => {
    const found = look(path);
    if (found === undefined) return;
    ensureParents(path);
    correct(path, ownership, found, 'file');
  };

  const { stateDir, applyDir, deliveryDir, keySetFile } = config;
  requireApart(config);
  ensureDirectory(dirname(defaultConfigFile), publicDirectory);
  for (const file of wish.keyFiles) {
    ensureDirectory(dirname(file.path), secretDirectory);
    ensureFile(file);
  }
  ensureFile({ path: defaultConfigFile, ownership: publicFile, text: configText });
  if (wish.keySet !== null) {
    requireSameKeySet(keySetFile, wish.keySet, machine.read(keySetFile), applyDir);
    ensureFile({ path: keySetFile, ownership: publicFile, text: wish.keySet });
  } else {
    ensureExisting(keySetFile, publicFile);
  }
  for (const secret of [config.transmission.credentialsFile, config.serf.rpcAuthFile])
    if (secret !== null) ensureExisting(secret, secretFile);

  // /var/lib/p2p-update belongs to this software alone; any other parent is refused, never repaired.
  for (const path of new Set([stateDir, applyDir, deliveryDir].map((each) => dirname(each))))
    if (path === '/var/lib/p2p-update') ensureDirectory(path, publicDirectory);
  ensureDirectory(applyDir, applyDirOwnership);
  for (const [name, ownership] of Object.entries<Ownership>(applyDirectories))
    ensureDirectory(join(applyDir, name), ownership);
  for (const name of trustedApplyDirectories) requireRootsContent(join(applyDir, name), machine);
  ensureDirectory(deliveryDir, deliveryDirOwnership);
  ensureDirectory(stateDir, stateDirOwnership);
  for (const [name, ownership] of Object.entries<Ownership>(stateDirectories))
    ensureDirectory(join(stateDir, name), ownership);

  for (const [path, ownership] of Object.entries(wish.directories))
    ensureDirectory(path, ownership);
  for (const file of wish.files(config)) ensureFile(file);
  return { config, steps };
}

/** The content of config.json: what it has already, with the wanted members. */
function planConfig(
  { config: wanted }: SetupWish,
  current: string | undefined,
): { text: string; config: Config } {
  if (current !== undefined) parseConfig(current, defaultConfigFile);
  const old = JSON.parse(current ?? '{}') as Record<string, unknown>;
  const merged = mergeMembers(old, wanted);
  const isSame = current !== undefined && isDeepStrictEqual(merged, old);
  const text = isSame ? current : `${JSON.stringify(merged, null, 2)}\n`;
  return { text, config: parseConfig(text, defaultConfigFile) };
}

function mergeMembers(
  old: Readonly<Record<string, unknown>>,
  wanted: Readonly<Record<string, unknown>>,
): Record<string, unknown> {
  const merged = { ...old };
  for (const [key, value] of Object.entries(wanted)) {
    const before = old[key];
    merged[key] = isRecord(value) ? mergeMembers(isRecord(before) ? before : {}, value) : value;
  }
  return merged;
}

function planAccounts({ users, groups }: Machine): SetupStep[] {
  const steps: SetupStep[] = [];
  const transmissionGroup = groups.get(transmissionUser);
  if (transmissionGroup === undefined || !users.has(transmissionUser))
    throw new UpdateError('configuration', `there is no user and group ${transmissionUser}`, {
      hint: 'install Transmission first: apt-get install transmission-daemon',
    });
  const user = users.get(nodeUser);
  if (user === undefined) steps.push({ kind: 'add-user', user: nodeUser });
  else if (user.uid === 0 || user.gid !== groups.get(nodeUser)?.gid)
    throw new UpdateError(
      'configuration',
      `the user ${nodeUser} exists, but is root or lacks a group of its own name`,
      { hint: `remove it (deluser ${nodeUser}), then run setup again: it makes the user` },
    );
  if (!transmissionGroup.members.includes(nodeUser))
    steps.push({ kind: 'add-to-group', user: nodeUser, group: transmissionUser });
  return steps;
}
