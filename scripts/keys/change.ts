import { closeSync, constants, openSync, readSync } from 'node:fs';
import { resolve } from 'node:path';
import { hasErrno, stateError, UpdateError } from '../../lib/errors.ts';
import { requirePlausibleClock } from '../../lib/submit/acceptance.ts';
import { readKeyToAdd } from '../../lib/submit/input.ts';
import { createDurably, replaceDurably } from '../../lib/system/durable-write.ts';
import { publicKeyFromPem } from '../../lib/trust/ed25519.ts';
import { type KeyChange, nextKeySet } from '../../lib/trust/key-change.ts';
import { formatProposal } from '../../lib/trust/key-proposal-file.ts';
import {
  completePayload,
  type KeyProposal,
  missingSigners,
  parseProposal,
  proposeKeySet,
  signProposal,
} from '../../lib/trust/key-proposal.ts';
import type { KeySet } from '../../lib/trust/key-set.ts';
import { chooseSigners, loadRootSigners } from '../../lib/trust/root-signers.ts';
import type { ChangeRequest } from './arguments.ts';

const maxTextBytes = 64 * 1024;

/**
 * Makes the proposal for a change, signed by the root keys at hand. Writes nothing.
 *
 * @throws UpdateError `usage` for a file that cannot be read, `try-later` while the clock is before the build, `refused` for a change that the rules of key
 *   sets forbid, `untrusted` for a file or root key that is none
 */
export async function proposeChange(
  request: ChangeRequest,
  current: KeySet,
  nowSeconds: number,
): Promise<KeyProposal> {
  requirePlausibleClock(nowSeconds);
  const next = nextKeySet(current, await toKeyChange(request));
  const signers = loadRootSigners(request.rootKeyFiles, current);
  const ids = chooseSigners(
    current,
    signers.map(({ id }) => id),
    request.with,
  );
  const proposal = signers.reduce(signProposal, proposeKeySet(current, next, ids, nowSeconds));
  return recheck(proposal, current);
}

/**
 * Adds signatures to a proposal; one that is there already is left as it is. Writes nothing.
 *
 * @throws UpdateError `refused` for a root key that the proposal does not name
 */
export function countersign(
  proposal: KeyProposal,
  rootKeyFiles: readonly string[],
  current: KeySet,
): KeyProposal {
  const signers = loadRootSigners(rootKeyFiles, current);
  const uninvited = signers.find(({ id }) => !proposal.signers.includes(id));
  if (uninvited !== undefined)
    throw new UpdateError(
      'refused',
      `root key ${uninvited.id} is not asked to sign this proposal`,
      {
        hint: `it names ${proposal.signers.join(', ')}; for another one, make a new proposal with --with`,
      },
    );
  return recheck(signers.reduce(signProposal, proposal), current);
}

/** Parses a proposal again, as other nodes will: one that they refuse must not be passed on. */
function recheck(proposal: KeyProposal, current: KeySet): KeyProposal {
  const read = parseProposal(formatProposal(proposal), current);
  if (missingSigners(read).length === 0) completePayload(read, current);
  return read;
}

async function toKeyChange(request: ChangeRequest): Promise<KeyChange> {
  const { action, rootThreshold, releaseThreshold } = request;
  const thresholds = { rootThreshold, releaseThreshold };
  switch (action.kind) {
    case 'add': {
      const key = publicKeyFromPem(await readPublicPem(action.file));
      const { channels } = action;
      const add = action.isRoot
        ? { role: 'root' as const, key }
        : { role: 'release' as const, key, channels };
      return { ...thresholds, add };
    }
    case 'remove':
      return { ...thresholds, remove: action.ids };
    case 'set':
      return action.limit === undefined ? thresholds : { ...thresholds, limit: action.limit };
  }
}

async function readPublicPem(file: string): Promise<string> {
  const pem = await readKeyToAdd(file);
  if (pem !== undefined) return pem;
  // Throws for a file that cannot be read; any other is no key.
  readText(file);
  throw new UpdateError('untrusted', `${JSON.stringify(file)} is not a public key in PEM`, {
    hint: 'give the .pub file that p2p-update keygen made',
  });
}

/**
 * The text of a proposal, key-set or key file, at most 64 KiB of it.
 *
 * @throws UpdateError `usage` when it cannot be read
 */
export function readText(file: string): string {
  try {
    // Non-blocking: to open a FIFO would wait for a writer.
    const descriptor = openSync(file, constants.O_RDONLY | constants.O_NONBLOCK);
    try {
      const bytes = Buffer.alloc(maxTextBytes);
      return bytes.toString('utf8', 0, readSync(descriptor, bytes));
    } finally {
      closeSync(descriptor);
    }
  } catch (cause) {
    throw new UpdateError('usage', `cannot read ${JSON.stringify(file)}`, {
      hint: 'name a file that you can read',
      cause,
    });
  }
}

/** The file of a new proposal: that of --out, or `keyset-N.proposal.json`. */
export function proposalFile({ next }: KeyProposal, out: string | undefined): string {
  return out ?? `keyset-${next.epoch}.proposal.json`;
}

/** Writes a new proposal; throws UpdateError `refused` for a file that exists, which may hold signatures. */
export function writeProposal(file: string, proposal: KeyProposal): void {
  const isNew = write(file, (path) => createDurably(path, formatProposal(proposal), 0o644));
  if (isNew) return;
  throw new UpdateError('refused', `${file} exists already`, {
    hint: 'name another file with --out, or remove the old proposal',
  });
}

/** Replaces a proposal by one with more signatures. */
export function updateProposal(file: string, proposal: KeyProposal): void {
  write(file, (path) => {
    replaceDurably(path, formatProposal(proposal), 0o644);
  });
}

function write<T>(file: string, action: (path: string) => T): T {
  const path = resolve(file);
  try {
    return action(path);
  } catch (cause) {
    if (hasErrno(cause, 'ENOENT', 'ENOTDIR', 'EACCES', 'EPERM'))
      throw new UpdateError('usage', `cannot write ${file}`, {
        hint: 'name a file in a directory that you may write to, with --out',
        cause,
      });
    throw stateError(cause, path);
  }
}
