import { commandHint } from '../command-hint.ts';
import { UpdateError } from '../errors.ts';
import type { PublicKey } from './ed25519.ts';
import { formatKeySet, type KeySet } from './key-set.ts';

/** The changes that an operator wants in the next key set. */
export interface KeyChange {
  /** The key to add, and its role; channels are of a release key, null is all. */
  add?: { role: 'root'; key: PublicKey } | { role: 'release'; key: PublicKey; channels: Channels };
  /** Ids, or unique beginnings of ids, of root and release keys. */
  remove?: readonly string[];
  /** The channels of a release key that stays. */
  limit?: { id: string; channels: Channels };
  rootThreshold?: number | undefined;
  releaseThreshold?: number | undefined;
}

type Channels = string[] | null;

const maxKeys = 3;

/**
 * Makes the key set of the next epoch.
 *
 * @throws UpdateError `usage` for a key that is not in the key set, `refused` for a key set that could
 *   not be used or would be the same, `malformed` for a name that is no channel
 */
export function nextKeySet(current: KeySet, change: KeyChange): KeySet {
  const { add, remove = [], limit } = change;
  const removed = new Set(remove.map((id) => findKey(current, id)));
  const limited = limit === undefined ? undefined : findKey(current, limit.id, 'release');
  const rootKeys = current.rootKeys.filter(({ id }) => !removed.has(id));
  const releaseKeys = current.releaseKeys
    .filter(({ key }) => !removed.has(key.id))
    .map((entry) =>
      limit !== undefined && entry.key.id === limited
        ? { ...entry, channels: limit.channels }
        : entry,
    );
  if (add !== undefined) {
    refuseKnown(current, add.key.id);
    if (add.role === 'root') rootKeys.push(add.key);
    else releaseKeys.push({ key: add.key, channels: add.channels });
  }
  const next: KeySet = {
    fleet: current.fleet,
    epoch: current.epoch + 1,
    rootThreshold: change.rootThreshold ?? current.rootThreshold,
    rootKeys: rootKeys.sort(byId),
    releaseThreshold: change.releaseThreshold ?? current.releaseThreshold,
    releaseKeys: releaseKeys.sort((a, b) => byId(a.key, b.key)),
  };
  checkCount('root', rootKeys.length, next.rootThreshold);
  checkCount('release', releaseKeys.length, next.releaseThreshold);
  if (signableChannels(next)?.length === 0)
    throw new UpdateError(
      'refused',
      `no channel would have the ${next.releaseThreshold} release keys that have to sign`,
      { hint: 'let the keys sign for the same channels, or lower the threshold' },
    );
  if (formatKeySet({ ...next, epoch: current.epoch }) === formatKeySet(current))
    throw new UpdateError('refused', 'the key set would be the same as the one in force', {
      hint: `compare with: ${commandHint('keys', 'list')}`,
    });
  return next;
}

/**
 * Finds the whole id of a key of a key set.
 *
 * @param text an id, or the beginning of one that no other key shares
 * @throws UpdateError `usage`
 */
export function findKey(keySet: KeySet, text: string, role?: 'root' | 'release'): string {
  const { rootKeys, releaseKeys } = keySet;
  const ids = [
    ...(role === 'release' ? [] : rootKeys.map(({ id }) => id)),
    ...(role === 'root' ? [] : releaseKeys.map(({ key }) => key.id)),
  ];
  const [found, other] = /^[0-9a-f]{1,16}$/.test(text)
    ? ids.filter((id) => id.startsWith(text))
    : [];
  const kind = role === undefined ? 'key' : `${role} key`;
  const hint = `key set ${keySet.epoch} has: ${ids.join(', ')}`;
  if (found === undefined)
    throw new UpdateError('usage', `no ${kind} has the id ${JSON.stringify(text)}`, { hint });
  if (other !== undefined)
    throw new UpdateError('usage', `several keys have ids that begin with ${text}`, { hint });
  return found;
}

/** Lists the changes of a key set against the one before it, in words, one line each. */
export function describeKeyChange(from: KeySet, to: KeySet): string[] {
  const rootIds = (keySet: KeySet): string[] => keySet.rootKeys.map(({ id }) => id);
  const releases = (keySet: KeySet): Map<string, Channels> =>
    new Map(keySet.releaseKeys.map(({ key, channels }) => [key.id, channels]));
  const [before, after] = [releases(from), releases(to)];
  const lines: string[] = [];
  for (const id of rootIds(from))
    if (!rootIds(to).includes(id)) lines.push(`removes root key ${id}`);
  for (const id of rootIds(to)) if (!rootIds(from).includes(id)) lines.push(`adds root key ${id}`);
  for (const id of before.keys()) if (!after.has(id)) lines.push(`removes release key ${id}`);
  for (const [id, channels] of after) {
    const old = before.get(id);
    if (old === undefined) lines.push(`adds release key ${id}, ${channelsText(channels)}`);
    else if (channelsText(old) !== channelsText(channels))
      lines.push(`release key ${id}: ${channelsText(old)} -> ${channelsText(channels)}`);
  }
  if (from.rootThreshold !== to.rootThreshold)
    lines.push(`root threshold ${from.rootThreshold} -> ${to.rootThreshold}`);
  if (from.releaseThreshold !== to.releaseThreshold)
    lines.push(`release threshold ${from.releaseThreshold} -> ${to.releaseThreshold}`);
  return lines;
}

/** The channels for which enough release keys may sign, ascending; null is all. */
export function signableChannels({ releaseKeys, releaseThreshold }: KeySet): string[] | null {
  const reaches = (channel: string | null): boolean =>
    releaseKeys.filter(
      ({ channels }) => channels === null || (channel !== null && channels.includes(channel)),
    ).length >= releaseThreshold;
  if (reaches(null)) return null;
  const named = new Set(releaseKeys.flatMap(({ channels }) => channels ?? []));
  return [...named].filter(reaches).sort();
}

/** The channels of a release key, in words. */
export function channelsText(channels: Channels): string {
  if (channels === null) return 'all channels';
  return `channel${channels.length > 1 ? 's' : ''} ${[...channels].sort().join(', ')}`;
}

function refuseKnown({ rootKeys, releaseKeys }: KeySet, id: string): void {
  const refuse = (role: string, hint: string): UpdateError =>
    new UpdateError('refused', `${id} is a ${role} key of this key set already`, { hint });
  if (rootKeys.some((key) => key.id === id))
    throw refuse(
      'root',
      `one key never has both roles; another is made by: ${commandHint('keygen', '--help')}`,
    );
  if (releaseKeys.some(({ key }) => key.id === id))
    throw refuse(
      'release',
      `to change its channels: ${commandHint('keys', 'set', id, '--channels', 'A,B', '--root-key', 'FILE')}`,
    );
}

/** Checks rules that formatKeySet has too; here the hint says how an operator can satisfy them. */
function checkCount(role: 'root' | 'release', count: number, threshold: number): void {
  const refuse = (message: string, hint: string): UpdateError =>
    new UpdateError('refused', message, { hint });
  const option = role === 'root' ? '--root-threshold' : '--threshold';
  if (count === 0)
    throw refuse(`no ${role} key would be left`, 'add another one first, then remove this one');
  if (count > maxKeys)
    throw refuse(
      `there would be ${count} ${role} keys, and ${maxKeys} are the most`,
      `remove one first: ${commandHint('keys', 'remove', 'ID', '--root-key', 'FILE')}`,
    );
  if (threshold > count)
    throw refuse(
      `${count} ${role} key${count > 1 ? 's' : ''} could not reach the ${role} threshold of ${threshold}`,
      `lower it in the same step: ${option} ${count}`,
    );
}

function byId(a: PublicKey, b: PublicKey): number {
  return a.id < b.id ? -1 : 1;
}
