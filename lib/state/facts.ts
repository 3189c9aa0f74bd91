import { createHash } from 'node:crypto';
import {
  type BigIntStats,
  closeSync,
  constants,
  futimesSync,
  lstatSync,
  openSync,
  renameSync,
  rmSync,
  statSync,
} from 'node:fs';
import { join } from 'node:path';
import { isChannel, isInfoHash, keySetChannel } from '../announcement/fields.ts';
import { parseUpdateKey, type UpdateId, updateKey } from '../announcement/update.ts';
import { hasErrno, UpdateError } from '../errors.ts';
import { describeFiles, namesIn } from '../system/directory.ts';
import { createDurably, replaceDurably } from '../system/durable-write.ts';
import { decodeRecord, encodeRecord } from '../system/record.ts';
import { readRegularFile } from '../system/regular-file.ts';
import { maxChannels } from './decide.ts';
import { announcementsDir, joinedFile, pendingDir, prepareStateDir, reseedsDir } from './layout.ts';

/** A payload of 2,048 bytes, its frame, and as much again. */
const maxFactBytes = 8192;

/**
 * More announcements of one channel than a node holds: one for each target, a noop of each, and
 * superseded ones that are not removed yet.
 */
const maxHeldPerChannel = 512;
/** Newest announcements of one channel that a pass reads: the node's user may plant any number. */
export const maxReadPerChannel = 128;
/** Channels that a node accepts, and that of the key sets. */
const maxHeldChannels = maxChannels + 1;
/** Files read of the directory `pending`, which has one for each channel. */
const maxPending = 1000;
/** Requests to add a torrent anew; only torrents of held announcements have one. */
const maxReseeds = 64;
/** Longer than one tick of a file system's clock: two changes within a tick look like one. */
const clockTickMs = 100;

/** A stored payload: announcement text, or a bare torrent in base64. */
export interface StoredPayload {
  payload: string;
  /** ISO 8601. */
  acceptedAt: string;
}

/** The last listing, with the signature of its directory at that time. */
let lastListing: { directory: string; signature: string; ids: readonly UpdateId[] } | undefined;

/**
 * Lists the accepted updates of this node by their file names: by channel, the oldest version first.
 *
 * Bounded by name before any file is read: the owner of the directory may have made 400,000 files in it.
 * Of each channel the newest are listed, of the channels the last by name. The directory is read anew
 * only when it has changed.
 */
export function listAccepted(stateDir: string): readonly UpdateId[] {
  const directory = announcementsDir(stateDir);
  const startedMs = Date.now();
  const stats = statOrNone(directory);
  const signature = stats === undefined ? '' : `${stats.dev}:${stats.ino}:${stats.mtimeNs}`;
  if (lastListing?.directory === directory && lastListing.signature === signature)
    return lastListing.ids;
  const ids = newestOf(namesIn(directory));
  const isSettled = stats !== undefined && startedMs - Number(stats.mtimeMs) > clockTickMs;
  lastListing = isSettled ? { directory, signature, ids } : undefined;
  return ids;
}

/** Undefined also for a directory that cannot be listed, which says why by itself. */
function statOrNone(directory: string): BigIntStats | undefined {
  try {
    return statSync(directory, { bigint: true, throwIfNoEntry: false });
  } catch (error) {
    if (hasErrno(error, 'ENOTDIR', 'ELOOP', 'EACCES', 'EPERM')) return undefined;
    throw error;
  }
}

function newestOf(names: Iterable<string>): UpdateId[] {
  const channels = new Map<string, number[]>();
  for (const name of names) {
    const id = parseUpdateKey(name);
    if (id === undefined || !Number.isSafeInteger(id.version)) continue;
    const versions = channels.get(id.channel);
    if (versions === undefined) channels.set(id.channel, [id.version]);
    else if (versions.push(id.version) >= 2 * maxHeldPerChannel) keepNewest(versions);
    if (channels.size >= 2 * maxHeldChannels) keepLastChannels(channels);
  }
  keepLastChannels(channels);
  return [...channels].sort(byName).flatMap(([channel, versions]) => {
    keepNewest(versions);
    return versions.reverse().map((version) => ({ channel, version }));
  });
}

/** Keeps the highest versions, in descending order. */
function keepNewest(versions: number[]): void {
  versions.sort((a, b) => b - a);
  versions.splice(maxHeldPerChannel);
}

function keepLastChannels(channels: Map<string, number[]>): void {
  const names = [...channels.keys()].filter((name) => name !== keySetChannel).sort();
  for (const name of names.slice(0, Math.max(0, names.length - maxChannels))) channels.delete(name);
}

function byName([a]: [string, unknown], [b]: [string, unknown]): number {
  return a < b ? -1 : 1;
}

/** Whether an announcement is stored under a channel and version, intact or damaged. */
export function isStored(stateDir: string, id: UpdateId): boolean {
  return lstatSync(acceptedFile(stateDir, id), { throwIfNoEntry: false }) !== undefined;
}

/**
 * Stores an accepted payload under its channel and version, once.
 *
 * @returns whether this call stored it; false when the name is taken already
 */
export function keepAccepted(stateDir: string, id: UpdateId, stored: StoredPayload): boolean {
  const file = acceptedFile(stateDir, id);
  const text = encodeRecord(stored);
  try {
    return createDurably(file, text);
  } catch (error) {
    if (!hasErrno(error, 'ENOENT')) throw error;
    prepareStateDir(stateDir);
    return createDurably(file, text);
  }
}

/** The stored payload of an accepted update; undefined when absent or damaged. */
export function readAccepted(stateDir: string, id: UpdateId): StoredPayload | undefined {
  return readStoredPayload(acceptedFile(stateDir, id));
}

/** Removes an accepted announcement; its records stay, and the reconciler cleans up after them. */
export function removeAccepted(stateDir: string, id: UpdateId): void {
  rmSync(acceptedFile(stateDir, id), { force: true });
}

/** Time at which an update was stored or last rung for, unix milliseconds; undefined when it is not stored. */
export function acceptedAtMs(stateDir: string, id: UpdateId): number | undefined {
  return lstatSync(acceptedFile(stateDir, id), { throwIfNoEntry: false })?.mtimeMs;
}

/** Replaces a damaged fact by verified bytes of the same channel and version. */
export function repairAccepted(stateDir: string, id: UpdateId, stored: StoredPayload): void {
  replaceFact(acceptedFile(stateDir, id), stored);
}

/**
 * Rings for an update that is stored already: a systemd path unit sees a file closed after writing, a
 * running reconciler its new time.
 */
export function ringAccepted(stateDir: string, id: UpdateId): void {
  const descriptor = openSync(acceptedFile(stateDir, id), 'r+');
  try {
    const now = new Date();
    futimesSync(descriptor, now, now);
  } finally {
    closeSync(descriptor);
  }
}

/** Rings because members have joined; any number of handlers may do so at once. */
export function ringJoined(stateDir: string): void {
  const { O_CREAT, O_WRONLY, O_NOFOLLOW, O_NONBLOCK } = constants;
  const flags = O_CREAT | O_WRONLY | O_NOFOLLOW | O_NONBLOCK;
  const descriptor = openSync(joinedFile(stateDir), flags, 0o640);
  try {
    const now = new Date();
    futimesSync(descriptor, now, now);
  } finally {
    closeSync(descriptor);
  }
}

/** Keeps one verified payload a channel, the highest version, until the clock can be trusted. */
export function keepPending(stateDir: string, id: UpdateId, payload: string): void {
  const file = join(pendingDir(stateDir), id.channel);
  const held = readPending(file);
  if (held !== undefined && held.version >= id.version) return;
  prepareStateDir(stateDir);
  replaceFact(file, { version: id.version, payload });
}

/** Lists the payloads of {@link keepPending}, each with the file to remove once it is decided. */
export function listPending(stateDir: string): { file: string; payload: string }[] {
  return pendingNames(stateDir).flatMap((name) => {
    const file = join(pendingDir(stateDir), name);
    const held = readPending(file);
    return held === undefined ? [] : [{ file, payload: held.payload }];
  });
}

function pendingNames(stateDir: string): string[] {
  const names: string[] = [];
  for (const name of namesIn(pendingDir(stateDir))) if (names.push(name) >= maxPending) break;
  return names;
}

/** A member's request that this node's daemon forget what it knows of the peers of a torrent. */
export interface Reseed {
  infoHash: string;
  /** Unix seconds of the last such request. */
  requestedAt: number;
}

/** Keeps a request to add a torrent anew, which also rings; once for all members that make it. */
export function keepReseed(stateDir: string, infoHash: string): void {
  prepareStateDir(stateDir);
  replaceDurably(join(reseedsDir(stateDir), infoHash), '');
}

/** Lists the requests of {@link keepReseed}. */
export function listReseeds(stateDir: string): Reseed[] {
  return reseedNames(stateDir).flatMap((infoHash) => {
    const file = join(reseedsDir(stateDir), infoHash);
    const stats = lstatSync(file, { throwIfNoEntry: false });
    return stats === undefined ? [] : [{ infoHash, requestedAt: Math.floor(stats.mtimeMs / 1000) }];
  });
}

/** Removes a request that is done, or is not to be followed. */
export function removeReseed(stateDir: string, infoHash: string): void {
  rmSync(join(reseedsDir(stateDir), infoHash), { recursive: true, force: true });
}

function reseedNames(stateDir: string): string[] {
  const names: string[] = [];
  for (const name of namesIn(reseedsDir(stateDir)))
    if (isInfoHash(name) && names.push(name) >= maxReseeds) break;
  return names.sort();
}

/**
 * Digest of the facts, which differs once one is added, removed or rung for again; of each channel only
 * the facts that a pass reads count.
 */
export function describeFacts(stateDir: string): string {
  const digest = createHash('sha256');
  const add = (directory: string, names: readonly string[]): void => {
    for (const line of describeFiles(directory, names)) digest.update(`${line}\n`);
  };
  const ids = listAccepted(stateDir);
  const isRead = ({ channel }: UpdateId, index: number): boolean =>
    ids[index + maxReadPerChannel]?.channel !== channel;
  add(announcementsDir(stateDir), ids.filter(isRead).map(updateKey));
  add(pendingDir(stateDir), pendingNames(stateDir).sort());
  add(reseedsDir(stateDir), reseedNames(stateDir));
  add(stateDir, ['joined']);
  return digest.digest('hex');
}

function acceptedFile(stateDir: string, id: UpdateId): string {
  return join(announcementsDir(stateDir), updateKey(id));
}

function readStoredPayload(file: string): StoredPayload | undefined {
  const value = readFact(file);
  if (typeof value !== 'object' || value === null) return undefined;
  const { payload, acceptedAt } = value as Record<string, unknown>;
  if (typeof payload !== 'string' || typeof acceptedAt !== 'string') return undefined;
  return { payload, acceptedAt };
}

function readPending(file: string): { version: number; payload: string } | undefined {
  const value = readFact(file);
  if (typeof value !== 'object' || value === null) return undefined;
  const { version, payload } = value as Record<string, unknown>;
  if (typeof version !== 'number' || typeof payload !== 'string') return undefined;
  return { version, payload };
}

/** Reads a fact, which a lesser user wrote and root may read; undefined when absent or damaged. */
function readFact(file: string): unknown {
  try {
    const bytes = readRegularFile(file, { maxBytes: maxFactBytes });
    return typeof bytes === 'string' ? undefined : decodeRecord(bytes.toString(), file)?.value;
  } catch (error) {
    // Of a later format, closed to this user, an I/O error: the fault must cost its own channel only.
    if (error instanceof UpdateError) return undefined;
    throw error;
  }
}

/** Writes a fact over a damaged one, even where a directory has taken its place. */
function replaceFact(file: string, value: unknown): void {
  if (lstatSync(file, { throwIfNoEntry: false })?.isDirectory() === true)
    renameSync(file, `${file}.corrupt-${Date.now()}`);
  replaceDurably(file, encodeRecord(value));
}

/** File name of an update's .torrent below `<stateDir>/torrents`. */
export function torrentFileName({ channel, version }: UpdateId): string {
  return `${channel}-${version}.torrent`;
}

/** Reverses {@link torrentFileName}; undefined for any other file name. */
export function parseTorrentFileName(name: string): UpdateId | undefined {
  const [, channel = '', version] = /^(.+)-([1-9]\d{0,15})\.torrent$/.exec(name) ?? [];
  return isChannel(channel) ? { channel, version: Number(version) } : undefined;
}
