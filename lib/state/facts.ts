import {
  closeSync,
  constants,
  futimesSync,
  lstatSync,
  mkdirSync,
  openSync,
  renameSync,
} from 'node:fs';
import { join } from 'node:path';
import { parseUpdateKey, type UpdateId, updateKey } from '../announcement/update.ts';
import { hasErrno, UpdateError } from '../errors.ts';
import { describeFiles, listDirectory } from '../system/directory.ts';
import { createDurably, replaceDurably } from '../system/durable-write.ts';
import { decodeRecord, encodeRecord } from '../system/record.ts';
import { readRegularFile } from '../system/regular-file.ts';

/** A payload of 2,048 bytes, its frame, and as much again. */
const maxFactBytes = 8192;

/**
 * The facts of a node below `stateDir`:
 *
 *     announcements/<channel>@<version>   accepted, created once, never changed
 *     pending/<channel>                   verified, waiting for a plausible clock
 *     updates/<channel>@<version>         how far advance came with it
 *     torrents/<channel>-<version>.torrent
 *     joined                              when members joined last
 *     catch-up                            what the last catch-up came to (lib/reconciler/catch-up/due.ts)
 */
export const factDirectories = ['announcements', 'pending', 'updates', 'torrents'];

/** Creates what is missing below the state directory; harmless when all is there. */
export function prepareStateDir(stateDir: string): void {
  for (const name of factDirectories)
    mkdirSync(join(stateDir, name), { recursive: true, mode: 0o750 });
}

/** Every accepted update of this node, as the file names say, oldest version first. */
export function listAccepted(stateDir: string): UpdateId[] {
  return listDirectory(join(stateDir, 'announcements'))
    .sort()
    .flatMap((name) => parseUpdateKey(name) ?? []);
}

/** A stored payload: announcement text, or a bare torrent in base64. */
export interface StoredPayload {
  payload: string;
  acceptedAt: string;
}

/**
 * Stores an accepted payload under its channel and version, once.
 *
 * @returns whether this call stored it; false when something is stored there already
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

/** Puts verified bytes in the place of a damaged fact of the same channel and version. */
export function repairAccepted(stateDir: string, id: UpdateId, stored: StoredPayload): void {
  replaceFact(acceptedFile(stateDir, id), stored);
}

/**
 * Rings for an update that is stored already: closing a file open for writing is what a systemd
 * path unit sees, the new time what a running reconciler sees.
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

/** The fact that members have joined since its time, which is all that it has. */
export function joinedFile(stateDir: string): string {
  return join(stateDir, 'joined');
}

/** Rings because members have joined; any number of times, by any number of handlers at once. */
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

/** Keeps one verified payload per channel until the clock can be trusted, the highest version. */
export function keepPending(stateDir: string, id: UpdateId, payload: string): void {
  const file = join(stateDir, 'pending', id.channel);
  const held = readPending(file);
  if (held !== undefined && held.version >= id.version) return;
  prepareStateDir(stateDir);
  replaceFact(file, { version: id.version, payload });
}

/** The payloads kept by {@link keepPending}, with the file to remove once one is dealt with. */
export function listPending(stateDir: string): { file: string; payload: string }[] {
  const directory = join(stateDir, 'pending');
  return listDirectory(directory).flatMap((name) => {
    const file = join(directory, name);
    const held = readPending(file);
    return held === undefined ? [] : [{ file, payload: held.payload }];
  });
}

/** The facts as a text that differs when one is added, removed, or rung for again. */
export function describeFacts(stateDir: string): string {
  const facts = ['announcements', 'pending'].flatMap((name) =>
    describeFiles(join(stateDir, name), listDirectory(join(stateDir, name))).map(
      (line) => `${name}/${line}`,
    ),
  );
  return [...facts, ...describeFiles(stateDir, ['joined'])].sort().join('\n');
}

function acceptedFile(stateDir: string, id: UpdateId): string {
  return join(stateDir, 'announcements', updateKey(id));
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

/** Root reads these, and a lesser user writes them; what cannot be read counts as damaged. */
function readFact(file: string): unknown {
  try {
    const bytes = readRegularFile(file, { maxBytes: maxFactBytes });
    return typeof bytes === 'string' ? undefined : decodeRecord(bytes.toString(), file)?.value;
  } catch (error) {
    // Of a later format, closed to us, an I/O error: that must cost its own channel only.
    if (error instanceof UpdateError) return undefined;
    throw error;
  }
}

/** Writes a fact over what was damaged, also where that is no file any more. */
function replaceFact(file: string, value: unknown): void {
  if (lstatSync(file, { throwIfNoEntry: false })?.isDirectory() === true)
    renameSync(file, `${file}.corrupt-${Date.now()}`);
  replaceDurably(file, encodeRecord(value));
}

/** The name of an update's .torrent below `<stateDir>/torrents`. */
export function torrentFileName({ channel, version }: UpdateId): string {
  return `${channel}-${version}.torrent`;
}

/** Reverses {@link torrentFileName}; undefined for any other file name. */
export function parseTorrentFileName(name: string): UpdateId | undefined {
  const match = /^([a-z0-9][a-z0-9._-]{0,23})-([1-9]\d{0,15})\.torrent$/.exec(name);
  if (match?.[1] === undefined) return undefined;
  return { channel: match[1], version: Number(match[2]) };
}
