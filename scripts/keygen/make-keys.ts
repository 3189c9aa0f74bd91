import { generateKeyPairSync } from 'node:crypto';
import {
  closeSync,
  fsyncSync,
  mkdirSync,
  openSync,
  rmdirSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { hasErrno, UpdateError } from '../../lib/errors.ts';
import { fsyncDirectory } from '../../lib/system/durable-write.ts';
import { type PublicKey, publicKeyOf } from '../../lib/trust/ed25519.ts';
import { formatKeySet, type KeySet } from '../../lib/trust/key-set.ts';
import type { KeygenRequest } from './arguments.ts';
import { print, printJson } from '../cli/output.ts';

/** A new key pair, and the two files that are to hold it. */
export interface NewKey {
  publicKey: PublicKey;
  keyFile: string;
  files: NewFile[];
}

export interface NewFile {
  path: string;
  content: string;
  mode: number;
}

/** Makes a key pair; nothing is written. */
export function makeKey(directory: string, name: string): NewKey {
  const pair = generateKeyPairSync('ed25519');
  const privatePem = pair.privateKey.export({ format: 'pem', type: 'pkcs8' }).toString();
  const publicPem = pair.publicKey.export({ format: 'pem', type: 'spki' }).toString();
  const keyFile = join(directory, `${name}.key`);
  return {
    publicKey: publicKeyOf(pair.publicKey),
    keyFile,
    files: [
      { path: keyFile, content: privatePem, mode: 0o600 },
      { path: join(directory, `${name}.pub`), content: publicPem, mode: 0o644 },
    ],
  };
}

/** Writes all files or none, each one new and flushed. */
function writeAll(directory: string, files: NewFile[]): void {
  const undo: (() => void)[] = [];
  try {
    if (makeDirectory(directory)) {
      undo.push(() => {
        rmdirSync(directory);
      });
      fsyncDirectory(dirname(directory));
    }
    for (const { path, content, mode } of files) {
      // Exclusive: neither replaces a file nor follows a link that another user placed there.
      const descriptor = openSync(path, 'wx', mode);
      undo.push(() => {
        unlinkSync(path);
      });
      try {
        writeFileSync(descriptor, content);
        fsyncSync(descriptor);
      } finally {
        closeSync(descriptor);
      }
    }
    fsyncDirectory(directory);
  } catch (error) {
    for (const step of undo.reverse()) step();
    throw explain(error, directory);
  }
}

function makeDirectory(directory: string): boolean {
  try {
    mkdirSync(directory, { mode: 0o700 });
    return true;
  } catch (error) {
    if (hasErrno(error, 'EEXIST')) return false;
    throw error;
  }
}

function explain(cause: unknown, directory: string): UpdateError {
  // Not `usage`: the command is well formed, but keys are never overwritten.
  if (hasErrno(cause, 'EEXIST'))
    return new UpdateError('refused', `${directory} has a file of that name already`, {
      hint: 'a key that nodes trust must not be lost: choose another directory',
      cause,
    });
  if (hasErrno(cause, 'ENOENT', 'ENOTDIR', 'EACCES', 'EPERM'))
    return new UpdateError('usage', `cannot write to ${directory}`, {
      hint: 'choose a directory that you may write to; the one above it must exist',
      cause,
    });
  return new UpdateError('try-later', `could not write the keys to ${directory}`, {
    hint: 'nothing was left behind: check the disk, then run keygen again',
    cause,
  });
}

/**
 * Makes the keys of a new fleet and its first key set, once, before the first node is installed.
 *
 * @throws UpdateError `refused` for a file that exists, `usage` for a directory that cannot be written,
 *   `try-later` when the disk fails; no new file is left then
 */
export function makeFleetKeys(request: KeygenRequest): void {
  const { fleet, directory, signers, threshold, roots, rootThreshold, json } = request;
  const root = makeKeys(directory, 'root', roots);
  const release = makeKeys(directory, 'release', signers);
  const keySet: KeySet = {
    fleet,
    epoch: 1,
    rootThreshold,
    rootKeys: root.map(({ publicKey }) => publicKey),
    releaseThreshold: threshold,
    releaseKeys: release.map(({ publicKey }) => ({ key: publicKey, channels: null })),
  };
  const keySetFile = join(directory, 'keyset.txt');
  const keySetText: NewFile = { path: keySetFile, content: formatKeySet(keySet), mode: 0o644 };
  writeAll(directory, [...[...root, ...release].flatMap(({ files }) => files), keySetText]);

  const named = ({ publicKey, keyFile }: NewKey) => ({ id: publicKey.id, keyFile });
  const facts = { fleet, epoch: 1, threshold, rootThreshold, keySetFile };
  // `root` is the first of `roots`: of most fleets the only one.
  const keys = { root: root.map(named)[0], roots: root.map(named), release: release.map(named) };
  if (json) printJson({ ...facts, ...keys });
  else print(nextSteps(keySetFile, root, release));
}

function makeKeys(directory: string, name: string, count: number): NewKey[] {
  return Array.from({ length: count }, (_, i) =>
    makeKey(directory, count === 1 ? name : `${name}-${i + 1}`),
  );
}

function nextSteps(keySetFile: string, root: NewKey[], release: NewKey[]): string {
  const [first, ...others] = root;
  const away =
    others.length === 0
      ? [
          `2. Move ${first?.keyFile ?? ''} to a medium that stays off line, and keep a second copy.`,
          '   It is needed only to change the key set; without it no key can be replaced.',
        ]
      : [
          '2. Give each root key to its holder, on a medium that stays off line, with a second copy,',
          '   and remove it here. They are needed only to change the key set (p2p-update keys).',
        ];
  return [
    ...root.map((key) => `root key ${key.publicKey.id}: ${key.keyFile}`),
    ...release.map((key) => `release key ${key.publicKey.id}: ${key.keyFile}`),
    `key set 1: ${keySetFile}`,
    '',
    'Next:',
    '1. Copy keyset.txt to every node, to the path that "keySetFile" has in its configuration',
    '   (/etc/p2p-update/keyset.txt by default), owned by root.',
    ...away,
    '3. Name the release key in "signingKeyFiles" on the machine that submits, and only there.',
    '',
  ].join('\n');
}
