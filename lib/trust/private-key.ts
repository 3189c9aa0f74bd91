import { createPrivateKey, type KeyObject } from 'node:crypto';
import { closeSync, constants, fstatSync, openSync, readFileSync } from 'node:fs';
import { UpdateError } from '../errors.ts';

/** First line of any private key in PEM: PKCS #8, plain or encrypted, and OpenSSL's and OpenSSH's own. */
const privateBlock = /^-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----/m;

/** True for text that holds a private key, which must never be copied. */
export function holdsPrivateKey(text: string): boolean {
  return privateBlock.test(text);
}

/**
 * Reads a private key from its file, which only its owner may be able to read.
 *
 * @param hint of the error when the file is missing or holds no key
 * @throws UpdateError `configuration`
 */
export function readPrivateKey(file: string, hint: string): KeyObject {
  try {
    // Non-blocking: opening a FIFO in its place would wait for a writer.
    const descriptor = openSync(file, constants.O_RDONLY | constants.O_NONBLOCK);
    try {
      // Mode of the open file, since the name may lead elsewhere a moment later.
      if ((fstatSync(descriptor).mode & 0o077) !== 0)
        throw new UpdateError('configuration', `others can read the private key ${file}`, {
          hint: `chmod 600 ${file} (a FAT medium: mount it with umask=077); if others had access, make a new key`,
        });
      return createPrivateKey(readFileSync(descriptor));
    } finally {
      closeSync(descriptor);
    }
  } catch (cause) {
    if (cause instanceof UpdateError) throw cause;
    throw new UpdateError('configuration', `cannot read the private key ${file}`, { hint, cause });
  }
}
