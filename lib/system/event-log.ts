import {
  closeSync,
  fchmodSync,
  fstatSync,
  ftruncateSync,
  openSync,
  readSync,
  renameSync,
  statSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { hasErrno, UpdateError } from '../errors.ts';
import { parseJson } from './json.ts';
import { readRegularFile } from './regular-file.ts';

/** One line of events.log: the program that was woken, and its decision. */
export interface LoggedEvent {
  handler: string;
  decision: string;
  reason: string;
  channel?: string;
  version?: number;
}

/** A line of events.log as it is read. */
export interface LoggedLine extends LoggedEvent {
  /** ISO 8601, milliseconds. */
  time: string;
  /** Milliseconds since the process started. */
  ms: number;
}

/** An idle node writes some 500 kB a day; five files are a week or more. */
const maxLogBytes = 2 ** 20;
const oldLogs = 4;
/** Limit for reading: a log grows past its size until the next reconcile, but never so far. */
const maxReadBytes = 2 ** 26;

/** Path of the log of a directory's owner; each user writes a file of its own. */
export function eventLogFile(directory: string): string {
  return join(directory, 'events.log');
}

/**
 * Appends one JSON line with the time (ISO 8601, milliseconds) and the milliseconds since this
 * process started. A log that cannot be written is no error: it must not lose an update.
 */
export function logEvent(directory: string, event: LoggedEvent): void {
  const { handler, channel, version, decision, reason } = event;
  const line = {
    time: new Date().toISOString(),
    handler,
    channel,
    version,
    decision,
    reason,
    ms: Math.round(performance.now()),
  };
  ignoringFaults(() => {
    append(directory, `${JSON.stringify(line)}\n`);
  });
}

/**
 * Sets a log aside once it has a mebibyte: `events.log.1` is the newest of four old ones. A process that
 * has it open goes on writing into the old one. To be called under the lock of the directory's owner:
 * two at once could push out a whole log.
 */
export function rotateLog(directory: string): void {
  const file = eventLogFile(directory);
  ignoringFaults(() => {
    if ((statSync(file, { throwIfNoEntry: false })?.size ?? 0) < maxLogBytes) return;
    for (let age = oldLogs - 1; age > 0; age -= 1)
      ignoringFaults(() => {
        renameSync(`${file}.${age}`, `${file}.${age + 1}`);
      });
    renameSync(file, `${file}.1`);
  });
}

/**
 * Reads every line of a directory's logs, oldest first; a malformed one, such as one torn by a power
 * cut, is left out. Root reads files that a lesser user may write, so no link is followed and no pipe
 * is waited for.
 *
 * @throws UpdateError `configuration` when this user may not read a log, `try-later` for an I/O error
 */
export function readEvents(directory: string): LoggedLine[] {
  const file = eventLogFile(directory);
  const ages = Array.from({ length: oldLogs }, (_, index) => `${file}.${oldLogs - index}`);
  return [...ages, file].flatMap((each) => readText(each).split('\n').flatMap(parseLine));
}

/** A place in a log, after which lines are new. */
export interface LogMark {
  inode: number;
  size: number;
}

/** The end of a directory's log. */
export function markEvents(directory: string): LogMark {
  const stats = statSync(eventLogFile(directory), { throwIfNoEntry: false });
  return { inode: stats?.ino ?? 0, size: stats?.size ?? 0 };
}

/** Reads the lines since a mark; none where this user may not. A log that was set aside meanwhile is not read. */
export function eventsSince(directory: string, mark: LogMark): LoggedLine[] {
  const file = eventLogFile(directory);
  const inode = statSync(file, { throwIfNoEntry: false })?.ino;
  try {
    const bytes = readRegularFile(file, { maxBytes: maxReadBytes });
    if (typeof bytes === 'string') return [];
    const fresh = bytes.subarray(inode === mark.inode ? mark.size : 0);
    return fresh.toString().split('\n').flatMap(parseLine);
  } catch (error) {
    if (error instanceof UpdateError) return [];
    throw error;
  }
}

function readText(file: string): string {
  const bytes = readRegularFile(file, { maxBytes: maxReadBytes });
  return typeof bytes === 'string' ? '' : bytes.toString();
}

function parseLine(text: string): LoggedLine[] {
  const value = parseJson(text);
  if (typeof value !== 'object' || value === null) return [];
  const { time, handler, channel, version, decision, reason, ms } = value as Record<
    string,
    unknown
  >;
  if (typeof time !== 'string' || typeof handler !== 'string') return [];
  if (typeof decision !== 'string' || typeof reason !== 'string') return [];
  return [
    {
      ...{ time, handler, decision, reason, ms: typeof ms === 'number' ? ms : 0 },
      ...(typeof channel === 'string' ? { channel } : {}),
      ...(typeof version === 'number' ? { version } : {}),
    },
  ];
}

function append(directory: string, text: string): void {
  const descriptor = openSync(eventLogFile(directory), 'a+', 0o600);
  try {
    const size = dropZeros(descriptor, fstatSync(descriptor).size);
    // Users that may read the directory may read its log, whatever the umask of a unit is.
    if (size === 0) fchmodSync(descriptor, 0o600 | (statSync(directory).mode & 0o044));
    // A line that was cut short (a full disk, a kill) must not make this one unreadable too.
    const last = Buffer.alloc(1);
    const isTorn = size > 0 && readSync(descriptor, last, 0, 1, size - 1) === 1 && last[0] !== 0x0a;
    writeSync(descriptor, isTorn ? `\n${text}` : text);
  } finally {
    closeSync(descriptor);
  }
}

/**
 * Cuts the NUL bytes at the end of a log, and returns its size. A file system may have kept the new size of a
 * file and not its new bytes when the power was cut.
 */
function dropZeros(descriptor: number, size: number): number {
  const block = Buffer.alloc(4096);
  let end = size;
  while (end > 0) {
    const start = Math.max(0, end - block.length);
    const read = readSync(descriptor, block, 0, end - start, start);
    let kept = read;
    while (kept > 0 && block[kept - 1] === 0) kept -= 1;
    end = start + kept;
    if (kept > 0) break;
  }
  if (end < size) ftruncateSync(descriptor, end);
  return end;
}

/** Goes on without the log where the disk is full or read-only, or it is another user's (the hook). */
function ignoringFaults(action: () => void): void {
  try {
    action();
  } catch (error) {
    if (!hasErrno(error, 'ENOSPC', 'EROFS', 'EACCES', 'EPERM', 'ENOENT', 'EIO')) throw error;
  }
}
