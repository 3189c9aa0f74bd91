import { constants } from 'node:fs';
import { chmod, copyFile, open, stat } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { shellCommand } from '../command-hint.ts';
import type { ContentKind } from '../announcement/fields.ts';
import { type DetectedKind, detectKind } from '../content/detect-kind.ts';
import { packDirectory } from '../content/pack.ts';
import { hasErrno, UpdateError } from '../errors.ts';
import { printable } from '../system/printable.ts';
import { holdsPrivateKey } from '../trust/private-key.ts';
import { type Typed, withCommands } from './again.ts';

/** The content of a submission. */
export interface SubmissionInput {
  /** Of the copy in the work directory. */
  path: string;
  /** Of the original file; any text. */
  name: string;
  kind: ContentKind;
  /** Why it is taken for that. */
  why: string;
  /** The default channel. */
  channel: string;
}

/** Limit for reading; a PEM file with its comments is far smaller. */
const maxKeyFileBytes = 64 * 1024;

/**
 * Copies the content, or packs a directory, into `workDir`, and detects its kind.
 *
 * @param typed the file, and the words of the command for hints
 * @param wanted the kind that a person has said
 * @param maxBytes the longest content
 * @throws UpdateError `usage` for a path that cannot be submitted, and for content that is not plainly of
 *   one kind, `malformed` for content that no node would take, `refused` for content that is too large
 */
export async function takeInput(
  typed: Typed,
  wanted: ContentKind | undefined,
  maxBytes: number,
  workDir: string,
): Promise<SubmissionInput> {
  const { file } = typed;
  let kind = wanted;
  try {
    const stats = await stat(file);
    const isDirectory = stats.isDirectory();
    if (!isDirectory && !stats.isFile()) throw cannotSubmit(file, 'it is a special file');
    if (!isDirectory) checkContentSize(stats.size, file, maxBytes);
    const detected = await detectKind(file, wanted);
    ({ kind } = detected);
    const name = isDirectory ? `${directoryName(file, detected)}.tar.gz` : basename(file);
    const path = join(workDir, isDirectory ? 'content.tar.gz' : name);
    if (isDirectory) await packDirectory(file, path);
    else await copyFile(file, path, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE);
    // Readable for Transmission's user, which seeds it.
    await chmod(path, 0o644);
    // A module is its own channel, so that module and manifest never supersede each other.
    const channel = detected.kind === 'module' ? detected.channel.slice(0, 24) : 'default';
    return { path, name, kind: detected.kind, why: detected.why, channel };
  } catch (error) {
    throw error instanceof UpdateError ? withCommands(error, typed, kind) : explain(error, file);
  }
}

/** A module's archive is named as a release is. */
function directoryName(directory: string, detected: DetectedKind): string {
  if (detected.kind !== 'module') return basename(resolve(directory));
  return `${detected.module.forgeName}-${detected.module.version}`;
}

/**
 * Reads a file that is a public key in PEM, which is to be added to the key set and not to be spread;
 * undefined for any other file, also one that cannot be read.
 *
 * @throws UpdateError `refused` for a private key: every node can read a submitted file
 */
export async function readKeyToAdd(file: string): Promise<string | undefined> {
  const text = await readStart(file).catch(() => '');
  if (holdsPrivateKey(text))
    throw new UpdateError('refused', `"${printable(file)}" holds a PRIVATE KEY: never send one`, {
      hint: `nothing was copied; to trust the key, submit its public half: ${shellCommand('openssl', 'pkey', '-in', printable(file), '-pubout')}`,
    });
  return /^\s*-----BEGIN PUBLIC KEY-----/.test(text) ? text : undefined;
}

async function readStart(file: string): Promise<string> {
  const handle = await open(file, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    if (!(await handle.stat()).isFile()) return '';
    // All four arguments: without them Node 18 reads nothing, and says no more than that.
    const { buffer, bytesRead } = await handle.read(
      Buffer.alloc(maxKeyFileBytes),
      0,
      maxKeyFileBytes,
      0,
    );
    return buffer.toString('latin1', 0, bytesRead);
  } finally {
    await handle.close();
  }
}

/**
 * Checks the size of content, in bytes.
 *
 * @throws UpdateError `malformed` when it is empty, `refused` when it is over `max`
 */
export function checkContentSize(size: number, file: string, max: number): void {
  if (size === 0)
    throw new UpdateError('malformed', `"${printable(file)}" is empty`, {
      hint: 'Transmission cannot share an empty file: submit one with content',
    });
  if (size > max)
    throw new UpdateError('refused', `"${printable(file)}" has ${size} bytes, more than ${max}`, {
      hint: 'the nodes would refuse it: split it, or raise "maxContentBytes" on all of them',
    });
}

function explain(error: unknown, file: string): unknown {
  if (hasErrno(error, 'ENOENT', 'ENOTDIR', 'ENAMETOOLONG'))
    return cannotSubmit(file, 'there is no such file');
  if (hasErrno(error, 'EACCES', 'EPERM', 'EIO', 'ELOOP'))
    return cannotSubmit(file, 'it cannot be read', error);
  return error;
}

function cannotSubmit(file: string, why: string, cause?: unknown): UpdateError {
  return new UpdateError('usage', `cannot submit "${printable(file)}": ${why}`, {
    hint: 'name a regular file, or a directory, that you can read',
    cause,
  });
}
