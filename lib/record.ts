import { hash } from 'node:crypto';
import { linkSync, readFileSync, renameSync, unlinkSync } from 'node:fs';
import { replaceDurably } from './durable.ts';
import { UpdateError, hasErrno } from './errors.ts';

const format = 1;

/** A JSON value as record text: a line with the format number and a SHA-256, then the JSON. */
export function encodeRecord(value: unknown): string {
  const json = `${JSON.stringify(value)}\n`;
  return `p2p-update-record ${format} ${hash('sha256', json)}\n${json}`;
}

/**
 * The value of record text; undefined when the text is not what was written (a damaged disk).
 *
 * @throws UpdateError `configuration` for a record of a later format: guessing would lose data
 */
export function decodeRecord(text: string, file: string): { value: unknown } | undefined {
  const match = /^p2p-update-record (\d{1,9}) ([0-9a-f]{64})\n(.*\n)$/s.exec(text);
  const [, version, digest, json] = match ?? [];
  if (Number(version) > format)
    throw new UpdateError('configuration', `${file} was written by newer software`, {
      hint: 'install at least the version of p2p-update that this node had before',
    });
  if (json === undefined || hash('sha256', json) !== digest) return undefined;
  return { value: JSON.parse(json) as unknown };
}

/** Replaces a record that changes, keeping its previous generation in `<file>.previous`. */
export function replaceRecord(file: string, value: unknown, mode = 0o640): void {
  const previous = `${file}.previous`;
  // A link, not a rename: at no instant is there no current generation.
  // A corrupt current generation must not push out the good one before it.
  if (readGeneration(file)?.value !== undefined) {
    ignoringAbsence(() => {
      unlinkSync(previous);
    });
    linkSync(file, previous);
  }
  replaceDurably(file, encodeRecord(value), mode);
}

/**
 * Reads a record that changes. A corrupt current generation is set aside as `<file>.corrupt` and
 * the previous one is used; undefined when there is no record at all.
 *
 * @throws UpdateError `configuration` when neither generation can be used: the node must not act as
 *   if nothing had happened
 */
export function readRecord(file: string): unknown {
  const current = readGeneration(file);
  if (current?.value !== undefined) return current.value;
  const previous = readGeneration(`${file}.previous`);
  if (current === undefined && previous === undefined) return undefined;
  if (previous?.value === undefined)
    throw new UpdateError(
      'configuration',
      `the record ${file} is corrupt, and so is the one before`,
      {
        hint: 'check the disk, then move the record away if its loss is acceptable',
      },
    );
  if (current !== undefined) renameSync(file, `${file}.corrupt`);
  return previous.value;
}

/** One generation: undefined when absent, without a value when corrupt. */
function readGeneration(file: string): { value?: unknown } | undefined {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return undefined;
    throw error;
  }
  return decodeRecord(text, file) ?? {};
}

function ignoringAbsence(action: () => void): void {
  try {
    action();
  } catch (error) {
    if (!hasErrno(error, 'ENOENT')) throw error;
  }
}
