import { UpdateError } from '../errors.ts';
import { checkTarget } from './target.ts';

/** What an update is; the wire has 1 to 6, in this order. */
export type Kind = (typeof kinds)[number];

// Format 1, byte by byte as in docs/announcement.md. A handler decodes before anything else is
// loaded, so this needs nothing but Buffer and the error class.

export const kinds = ['manifest', 'module', 'environment', 'file', 'keyset', 'withdraw'] as const;

/** The signed fields. Times are unix seconds, lengths are bytes, hashes are lowercase hex. */
export interface Announcement {
  kind: Kind;
  noop: boolean;
  rerun: boolean;
  /** Epoch of the key set that the signers had, 0 to 2^32-1. */
  epoch: number;
  /** 1 to 2^53-1. */
  version: number;
  created: number;
  /** 0 is at once. */
  notBefore: number;
  /** Later than `created` and `notBefore`. */
  expires: number;
  /** BitTorrent v1, 40 digits: a locator, never a proof of integrity. Zeros for `withdraw`. */
  infoHash: string;
  /** 64 digits. Zeros for `withdraw`. */
  sha256: string;
  /** 1 to 2^48-1; 0 for `withdraw`. */
  length: number;
  /** A power of two, 2^14 to 2^24; 0 for `withdraw`. */
  pieceLength: number;
  channel: string;
  name: string;
  target: string;
  /** The SHA-1 of every piece, 20 bytes each, or empty: the metadata then comes from a peer. */
  pieces: Uint8Array;
}

// The table of docs/announcement.md: the same rules for what we make and for what we are sent.

const maxSigners = 3;
const pieceHashBytes = 20;
/** Key sets are ordered by epoch, in a channel of their own that no other kind may enter. */
export const keySetChannel = 'keyset';

/** True for 1 to 24 of `[a-z0-9._-]`, the first a letter or digit. */
export function isChannel(text: string): boolean {
  return /^[a-z0-9][a-z0-9._-]{0,23}$/.test(text);
}

/** True for 1 to 64 of `[A-Za-z0-9._+-]`, the first a letter or digit: safe as a file name. */
export function isContentName(text: string): boolean {
  return /^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$/.test(text);
}

/**
 * Every rule for the value of a field.
 *
 * @throws UpdateError `malformed`
 */
export function checkFields(a: Announcement): void {
  checkUint('epoch', a.epoch, 0, 2 ** 32 - 1);
  checkUint('version', a.version, 1, Number.MAX_SAFE_INTEGER);
  checkUint('created', a.created, 0, 2 ** 32 - 1);
  checkUint('not before', a.notBefore, 0, 2 ** 32 - 1);
  checkUint('expires', a.expires, 0, 2 ** 32 - 1);
  check(a.expires > a.created, 'expires must be later than created');
  check(a.expires > a.notBefore, 'expires must be later than not before');
  check(
    !a.noop || a.kind === 'manifest' || a.kind === 'environment',
    `noop has no meaning for kind ${a.kind}`,
  );
  check(/^[0-9a-f]{40}$/.test(a.infoHash), 'the info hash must be 40 lowercase hex digits');
  check(/^[0-9a-f]{64}$/.test(a.sha256), 'the SHA-256 must be 64 lowercase hex digits');
  if (a.kind === 'withdraw') {
    check(/^0+$/.test(a.infoHash + a.sha256), 'the hashes of kind withdraw must be zero');
    check(a.length === 0, 'the content length of kind withdraw must be 0');
    check(a.pieceLength === 0, 'the piece length of kind withdraw must be 0');
    check(a.pieces.length === 0, 'kind withdraw has no pieces');
  } else {
    checkUint('content length', a.length, 1, 2 ** 48 - 1);
    check(isPieceLength(a.pieceLength), 'the piece length must be a power of two, 2^14 to 2^24');
    const needed = Math.ceil(a.length / a.pieceLength);
    const pieceCount = a.pieces.length / pieceHashBytes;
    check(
      pieceCount === 0 || pieceCount === needed,
      `${pieceCount} pieces are listed; the content has ${needed} and none or all must be`,
    );
  }
  check(
    isChannel(a.channel),
    'the channel must be 1 to 24 of a-z 0-9 . _ -, first a letter or digit',
  );
  const isKeySet = a.kind === 'keyset';
  check(
    (a.channel === keySetChannel) === isKeySet,
    `channel ${keySetChannel} is for key sets, and they are for no other channel`,
  );
  check(
    !isKeySet || (a.version === a.epoch + 1 && a.target === '' && !a.rerun),
    'a key set has the version epoch + 1, no target and no rerun',
  );
  check(
    isContentName(a.name),
    'the name must be 1 to 64 of A-Z a-z 0-9 . _ + -, first a letter or digit',
  );
  checkTarget(a.target);
}

/**
 * 1 to 3 ids of 16 lowercase hex digits, strictly ascending.
 *
 * @throws UpdateError `malformed`
 */
export function checkSigners(signers: readonly string[]): void {
  checkSignerCount(signers.length);
  check(
    signers.every((id) => /^[0-9a-f]{16}$/.test(id)),
    'a signer id must be 16 lowercase hex digits',
  );
  check(
    signers.every((id, i) => id > (signers[i - 1] ?? '')),
    'the signer ids must be in ascending order, each one once',
  );
}

/** @throws UpdateError `malformed` */
export function checkSignerCount(count: number): void {
  check(count >= 1 && count <= maxSigners, `${count} signers: there must be 1 to ${maxSigners}`);
}

function isPieceLength(bytes: number): boolean {
  const exponent = Math.log2(bytes);
  return Number.isInteger(exponent) && exponent >= 14 && exponent <= 24;
}

function checkUint(field: string, value: number, min: number, max: number): void {
  const holds = Number.isInteger(value) && value >= min && value <= max;
  check(holds, `${field} must be a whole number from ${min} to ${max}`);
}

/** For what a later version of the format may allow. @throws UpdateError `malformed` */
export function checkKnown(holds: boolean, what: string): asserts holds {
  check(
    holds,
    `${what} is not known here: newer software needed`,
    'install the newer p2p-update on this node',
  );
}

/** @throws UpdateError `malformed` unless it holds */
export function check(
  holds: boolean,
  message: string,
  hint = 'docs/announcement.md has the rule for each field',
): asserts holds {
  if (!holds) throw new UpdateError('malformed', message, { hint });
}
