import {
  closeSync,
  constants,
  fstatSync,
  futimesSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { createDurably, replaceDurably } from './durable.ts';
import { UpdateError, hasErrno } from './errors.ts';
import { decodeRecord, encodeRecord } from './record.ts';
import { parseUpdateKey, updateKey, type UpdateId } from './update.ts';

const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK } = constants;
/** A payload of 2,048 bytes, its frame, and as much again. */
const maxFactBytes = 8192;

/**
 * The facts of a node below `stateDir`:
 *
 *     announcements/<channel>@<version>   accepted, created once, never changed
 *     pending/<channel>                   verified, waiting for a plausible clock
 *     updates/<channel>@<version>         how far advance came with it
 *     torrents/<channel>-<version>.torrent
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
  replaceDurably(acceptedFile(stateDir, id), encodeRecord(stored));
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

/** Keeps one verified payload per channel until the clock can be trusted, the highest version. */
export function keepPending(stateDir: string, id: UpdateId, payload: string): void {
  const file = join(stateDir, 'pending', id.channel);
  const held = readPending(file);
  if (held !== undefined && held.version >= id.version) return;
  prepareStateDir(stateDir);
  replaceDurably(file, encodeRecord({ version: id.version, payload }));
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
  return ['announcements', 'pending']
    .flatMap((name) =>
      describeFiles(join(stateDir, name), listDirectory(join(stateDir, name))).map(
        (line) => `${name}/${line}`,
      ),
    )
    .sort()
    .join('\n');
}

/** Each file's name and time of change. */
export function describeFiles(directory: string, names: readonly string[]): string[] {
  return names.map((name) => {
    const stats = lstatSync(join(directory, name), { throwIfNoEntry: false });
    return `${name} ${stats?.mtimeMs ?? 'gone'}`;
  });
}

function acceptedFile(stateDir: string, id: UpdateId): string {
  return join(stateDir, 'announcements', updateKey(id));
}

/** The names in a directory; none when it is not there yet. */
export function listDirectory(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return [];
    if (!hasErrno(error, 'ENOTDIR', 'ELOOP')) throw error;
    throw new UpdateError('configuration', `${directory} is not a directory`, {
      hint: 'find out who put something else there, move it away, and run scripts/setup.ts',
      cause: error,
    });
  }
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

/**
 * Root reads these, and a lesser user writes them: no link is followed, nothing is waited for, and
 * no more is read than a fact can have.
 */
function readFact(file: string): unknown {
  let descriptor: number;
  try {
    descriptor = openSync(file, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  } catch (error) {
    if (hasErrno(error, 'ENOENT', 'ELOOP', 'ENXIO')) return undefined;
    throw error;
  }
  try {
    const stats = fstatSync(descriptor);
    if (!stats.isFile() || stats.size > maxFactBytes) return undefined;
    return decodeRecord(readFileSync(descriptor, 'utf8'), file)?.value;
  } catch (error) {
    // Of a later format, or so it says: that must cost its own channel only.
    if (error instanceof UpdateError) return undefined;
    throw error;
  } finally {
    closeSync(descriptor);
  }
}

/**
 * Wraps a failure to write the state, so that the sender of the event (or the next wake-up) tries
 * again: a full or read-only disk, 75.
 */
export function stateError(cause: unknown, stateDir: string): unknown {
  if (!hasErrno(cause, 'ENOSPC', 'EROFS', 'EIO', 'EDQUOT', 'EACCES', 'EPERM', 'ENOTDIR'))
    return cause;
  return new UpdateError('try-later', `cannot write the state below ${stateDir}`, {
    hint: 'free space, or correct the owner and mode of the directory; nothing was changed',
    cause,
  });
}
