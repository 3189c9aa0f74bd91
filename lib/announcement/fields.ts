import { UpdateError } from '../errors.ts';
import { checkTarget } from './target.ts';

// Format 1, byte by byte as in docs/announcement.md. A handler decodes before anything else is
// loaded, so this needs nothing but Buffer and the error class.

/**
 * Every kind of update: its number on the wire, whether Puppet can try it without changing anything
 * (noop), and its place when several updates are due at once. Key sets come first, since they decide
 * which keys count; a module comes before the manifests that declare its classes.
 */
const kinds = {
  manifest: { wireNumber: 1, allowsNoop: true, applicationOrder: 4 },
  module: { wireNumber: 2, allowsNoop: false, applicationOrder: 2 },
  environment: { wireNumber: 3, allowsNoop: true, applicationOrder: 3 },
  file: { wireNumber: 4, allowsNoop: false, applicationOrder: 5 },
  keyset: { wireNumber: 5, allowsNoop: false, applicationOrder: 1 },
  withdraw: { wireNumber: 6, allowsNoop: false, applicationOrder: 6 },
} as const;

export type Kind = keyof typeof kinds;

/** The kinds that a file or directory can be submitted as. */
export const contentKinds = ['manifest', 'module', 'environment', 'file'] as const satisfies Kind[];
export type ContentKind = (typeof contentKinds)[number];

/** Every kind with its article, for a sentence. */
export const kindWords: Readonly<Record<Kind, string>> = {
  manifest: 'a manifest',
  module: 'a module',
  environment: 'an environment',
  file: 'a file',
  keyset: 'a key set',
  withdraw: 'a withdrawal',
};

/** The kind's number on the wire, 1 to 6. */
export function wireNumber(kind: Kind): number {
  return kinds[kind].wireNumber;
}

/** The kind with this number on the wire; undefined for a number of later software. */
export function kindOfNumber(number: number): Kind | undefined {
  return (Object.keys(kinds) as Kind[]).find((kind) => kinds[kind].wireNumber === number);
}

/** True for the kinds that Puppet can run with --noop. */
export function allowsNoop(kind: Kind): boolean {
  return kinds[kind].allowsNoop;
}

/** Rank among the updates that are due at once, the lowest first; null, a bare torrent, ranks as a file. */
export function applicationOrder(kind: Kind | null): number {
  return kinds[kind ?? 'file'].applicationOrder;
}

/** The info hash of a withdrawal, which has no content. */
export const zeroInfoHash = '0'.repeat(40);
/** The SHA-256 of a withdrawal, which has no content. */
export const zeroSha256 = '0'.repeat(64);

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
  /** 0: at once. */
  notBefore: number;
  /** Later than `created` and `notBefore`. */
  expires: number;
  /** BitTorrent v1 (BEP 3), 40 digits: a locator, never a proof of integrity. Zeros for `withdraw`. */
  infoHash: string;
  /** Of the content, 64 digits. Zeros for `withdraw`. */
  sha256: string;
  /** 1 to 2^48-1; 0 for `withdraw`. */
  length: number;
  /** A power of two, 2^14 to 2^24; 0 for `withdraw`. */
  pieceLength: number;
  channel: string;
  name: string;
  target: string;
  /** The SHA-1 of every piece, 20 bytes each, or empty: the metadata then comes from a peer (BEP 9). */
  pieces: Uint8Array;
}

// The table of docs/announcement.md: the same rules for encoding and for decoding.

const maxSigners = 3;
const pieceHashBytes = 20;
/** The channel of key sets, which are ordered by epoch; no other kind may enter it. */
export const keySetChannel = 'keyset';

/** True for 1 to 24 of `[a-z0-9._-]`, the first a letter or digit. */
export function isChannel(text: string): boolean {
  return /^[a-z0-9][a-z0-9._-]{0,23}$/.test(text);
}

/** True for a BitTorrent v1 info hash, 40 lowercase hex digits. */
export function isInfoHash(text: string): boolean {
  return /^[0-9a-f]{40}$/.test(text);
}

/** True for a SHA-256, 64 lowercase hex digits. */
export function isSha256(text: string): boolean {
  return /^[0-9a-f]{64}$/.test(text);
}

/** True for a piece length, in bytes, that an announcement can express: a power of two, 2^14 to 2^24. */
export function isPieceLength(bytes: number): boolean {
  const exponent = Math.log2(bytes);
  return Number.isInteger(exponent) && exponent >= 14 && exponent <= 24;
}

/** True for 1 to 64 of `[A-Za-z0-9._+-]`, the first a letter or digit: safe as a file name. */
export function isContentName(text: string): boolean {
  return /^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$/.test(text);
}

/**
 * Checks every rule for the value of a field.
 *
 * @throws UpdateError `malformed` for the first rule that is broken
 */
export function checkFields(a: Announcement): void {
  checkUint('epoch', a.epoch, 0, 2 ** 32 - 1);
  checkUint('version', a.version, 1, Number.MAX_SAFE_INTEGER);
  checkUint('created', a.created, 0, 2 ** 32 - 1);
  checkUint('not before', a.notBefore, 0, 2 ** 32 - 1);
  checkUint('expires', a.expires, 0, 2 ** 32 - 1);
  check(a.expires > a.created, 'expires must be later than created');
  check(a.expires > a.notBefore, 'expires must be later than not before');
  check(!a.noop || allowsNoop(a.kind), `noop has no meaning for kind ${a.kind}`);
  check(isInfoHash(a.infoHash), 'the info hash must be 40 lowercase hex digits');
  check(isSha256(a.sha256), 'the SHA-256 must be 64 lowercase hex digits');
  if (a.kind === 'withdraw') {
    check(
      a.infoHash === zeroInfoHash && a.sha256 === zeroSha256,
      'the hashes of kind withdraw must be zero',
    );
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
 * Checks signer ids: 1 to 3, 16 lowercase hex digits each, strictly ascending.
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

/**
 * Checks the number of signers, 1 to 3.
 *
 * @throws UpdateError `malformed`
 */
export function checkSignerCount(count: number): void {
  check(count >= 1 && count <= maxSigners, `${count} signers: there must be 1 to ${maxSigners}`);
}

function checkUint(field: string, value: number, min: number, max: number): void {
  const holds = Number.isInteger(value) && value >= min && value <= max;
  check(holds, `${field} must be a whole number from ${min} to ${max}`);
}

/**
 * Checks that a value is one of format 1; a later version of the format may allow others.
 *
 * @throws UpdateError `malformed`, which says that newer software is needed
 */
export function checkKnown(holds: boolean, what: string): asserts holds {
  check(
    holds,
    `${what} is not known here: newer software needed`,
    'install the newer p2p-update on this node',
  );
}

/**
 * Checks a rule.
 *
 * @throws UpdateError `malformed`, with this message and hint, unless it holds
 */
export function check(
  holds: boolean,
  message: string,
  hint = 'docs/announcement.md has the rule for each field',
): asserts holds {
  if (!holds) throw new UpdateError('malformed', message, { hint });
}
