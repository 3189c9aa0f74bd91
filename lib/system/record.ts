import { createHash } from 'node:crypto';
import { linkSync, lstatSync, renameSync, rmSync } from 'node:fs';
import { replaceDurably } from './durable-write.ts';
import { UpdateError, hasErrno } from '../errors.ts';
import { readRegularFile } from './regular-file.ts';

const format = 1;
/** Limit for reading; the longest record has a noop's list of properties. */
const maxRecordBytes = 2 ** 24;

/** Encodes a JSON value as record text: a line with the format number and a SHA-256, then the JSON. */
export function encodeRecord(value: unknown): string {
  const json = `${JSON.stringify(value)}\n`;
  return `p2p-update-record ${format} ${digest(format, json)}\n${json}`;
}

/** SHA-256 over the format number too: one flipped bit in it must not pass for newer software. */
function digest(version: number, json: string): string {
  return createHash('sha256').update(`${version}\n${json}`).digest('hex');
}

/**
 * Decodes record text; undefined when its digest does not match (a damaged disk).
 *
 * @throws UpdateError `configuration` for a record of a later format: guessing would lose data
 */
export function decodeRecord(text: string, file: string): { value: unknown } | undefined {
  const match = /^p2p-update-record ([1-9]\d{0,8}) ([0-9a-f]{64})\n(.*\n)$/s.exec(text);
  const [, version, said, json] = match ?? [];
  if (json === undefined || digest(Number(version), json) !== said) return undefined;
  if (Number(version) !== format)
    throw new UpdateError('configuration', `${file} was written by newer software`, {
      hint: 'install at least the version of p2p-update that this node had before',
    });
  return { value: JSON.parse(json) as unknown };
}

/**
 * Replaces a record that changes.
 *
 * @param previous content of `<file>.previous`, which is read when this generation is damaged: the one
 *   before, or a copy of this one, where going back a step would do harm
 */
export function replaceRecord(
  file: string,
  value: unknown,
  mode = 0o640,
  previous: 'the one before' | 'a copy' = 'the one before',
): void {
  const text = encodeRecord(value);
  const current = readGeneration(file);
  // A directory in its place could not be replaced by rename(2).
  if (current === 'damaged') setAsideUnlessFile(file);
  if (previous === 'a copy') {
    setAsideUnlessFile(`${file}.previous`);
    // The copy first: at no instant must damage to one of the two bring back the generation before.
    replaceDurably(`${file}.previous`, text, mode);
  } else if (typeof current === 'object') {
    // A corrupt current generation must not push out the good one before it.
    rmSync(`${file}.previous`, { recursive: true, force: true });
    // A link, not a rename: at no instant is there no current generation.
    linkSync(file, `${file}.previous`);
  }
  replaceDurably(file, text, mode);
}

/**
 * Reads a record that changes. A corrupt current generation is set aside as `<file>.corrupt` and
 * the previous one is used; undefined when there is no record at all.
 *
 * @throws UpdateError `configuration` when neither generation can be used, or this user may not read
 *   them: the node must not act as if nothing had happened; `try-later` for an I/O error
 */
export function readRecord(file: string): unknown {
  const current = readGeneration(file);
  if (typeof current === 'object') return current.value;
  const previous = readGeneration(`${file}.previous`);
  if (current === 'absent' && previous === 'absent') return undefined;
  if (typeof previous !== 'object')
    throw new UpdateError(
      'configuration',
      `the record ${file} is corrupt, and so is the one before`,
      {
        hint: 'check the disk, then move the record away if its loss is acceptable',
      },
    );
  if (current === 'damaged') setAside(file);
  return previous.value;
}

function readGeneration(file: string): { value: unknown } | 'absent' | 'damaged' {
  const bytes = readRegularFile(file, { maxBytes: maxRecordBytes });
  if (bytes === 'absent') return 'absent';
  if (bytes === 'invalid') return 'damaged';
  return decodeRecord(bytes.toString(), file) ?? 'damaged';
}

function setAsideUnlessFile(file: string): void {
  if (lstatSync(file, { throwIfNoEntry: false })?.isFile() === false) setAside(file);
}

/** Keeps a damaged record for a person to look at. */
function setAside(file: string): void {
  try {
    rmSync(`${file}.corrupt`, { recursive: true, force: true });
    renameSync(file, `${file}.corrupt`);
  } catch (error) {
    // A user that may only read the record leaves this to its owner.
    if (!hasErrno(error, 'EACCES', 'EPERM', 'EROFS', 'ENOENT')) throw error;
  }
}
