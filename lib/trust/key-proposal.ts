import { createHash } from 'node:crypto';
import {
  decodeAnnouncement,
  encodeAnnouncement,
  encodeBody,
  pieceBudget,
  type SignedAnnouncement,
} from '../announcement/codec.ts';
import { type Announcement, check, keySetChannel } from '../announcement/fields.ts';
import { choosePieceLength, computeInfoHash, type Content } from '../announcement/metainfo.ts';
import { commandHint } from '../command-hint.ts';
import { UpdateError } from '../errors.ts';
import { altered, readProposalFile } from './key-proposal-file.ts';
import { formatKeySet, type KeySet, parseKeySet } from './key-set.ts';
import type { Signer } from './signing.ts';
import { signBody, verifyAnnouncement } from './verify.ts';

/** The next key set while its root keys sign it, one after the other. */
export interface KeyProposal {
  next: KeySet;
  /** Canonical text of `next`: the content of the announcement. */
  text: string;
  announcement: Announcement;
  /** The root keys that have to sign, by id, ascending: the signed bytes name them. */
  signers: readonly string[];
  body: Uint8Array;
  /** Verified, by signer id. */
  signatures: ReadonlyMap<string, Uint8Array>;
}

const signatureBytes = 64;
/** Expiry of key sets: a node that was switched off for years must be able to follow the chain. */
const neverExpires = 2 ** 32 - 1;

/**
 * Proposes the next key set, unsigned.
 *
 * @param signers ids of root keys of `current` that will sign, at least its root threshold
 * @param created unix seconds
 */
export function proposeKeySet(
  current: KeySet,
  next: KeySet,
  signers: readonly string[],
  created: number,
): KeyProposal {
  const text = formatKeySet(next);
  const sorted = [...signers].sort();
  const announcement = announceKeySet(current, text, sorted.length, created);
  const body = encodeBody(announcement, sorted);
  return { next, text, announcement, signers: sorted, body, signatures: new Map() };
}

/** Derives the announcement of a key set, all fields of which follow from these four. */
function announceKeySet(
  current: KeySet,
  text: string,
  signers: number,
  created: number,
): Announcement {
  const version = current.epoch + 1;
  const name = `keyset-${version}.txt`;
  const bytes = Buffer.from(text);
  // By Serf's default limit, not by this node's: another node may send the event.
  const room = pieceBudget({ signers, channel: keySetChannel, name, target: '' });
  const content: Content = {
    name,
    length: bytes.length,
    sha256: createHash('sha256').update(bytes).digest('hex'),
    pieceLength: choosePieceLength(bytes.length, room),
    // A key set is shorter than the smallest piece.
    pieces: createHash('sha1').update(bytes).digest(),
  };
  return {
    kind: 'keyset',
    noop: false,
    rerun: false,
    epoch: current.epoch,
    version,
    created,
    notBefore: 0,
    expires: neverExpires,
    infoHash: computeInfoHash(content),
    channel: keySetChannel,
    target: '',
    ...content,
    pieces: content.pieces.length <= room ? content.pieces : new Uint8Array(),
  };
}

/** Adds a signature to a proposal; `signer` must be one of its signers. */
export function signProposal(proposal: KeyProposal, signer: Signer): KeyProposal {
  const signature = signBody(proposal.body, proposal.next.fleet, signer.key);
  return { ...proposal, signatures: new Map([...proposal.signatures, [signer.id, signature]]) };
}

/** Ids of the root keys that have not signed yet. */
export function missingSigners({ signers, signatures }: KeyProposal): string[] {
  return signers.filter((id) => !signatures.has(id));
}

/**
 * Makes the payload of the event, once every signer has signed.
 *
 * @throws UpdateError `refused` while a signature is missing; `untrusted` when a node with `current`
 *   would not take it
 */
export function completePayload(proposal: KeyProposal, current: KeySet): string {
  const { signers, signatures, body } = proposal;
  const missing = missingSigners(proposal);
  if (missing.length > 0)
    throw new UpdateError('refused', `root key ${missing.join(', ')} has not signed yet`, {
      hint: `its holder runs: ${commandHint('keys', 'countersign', 'PROPOSAL', '--root-key', 'FILE')}`,
    });
  const payload = encodeAnnouncement(
    body,
    signers.flatMap((id) => signatures.get(id) ?? []),
  );
  verifyAnnouncement(decodeAnnouncement(payload), current);
  return payload;
}

/**
 * Reads a proposal and checks that its parts agree with each other and that it follows the key set in
 * force. No part is trusted: each is derived or verified anew.
 *
 * @throws UpdateError `malformed` when it is damaged or altered, `refused` when it is for another
 *   epoch, `untrusted` when it is for another fleet, or a signature or a signer is not a root key's
 */
export function parseProposal(json: string, current: KeySet): KeyProposal {
  const { text, body, signatures } = readProposalFile(json);
  const next = parseKeySet(text);
  checkFollows(next, current);
  const { announcement, signers } = decodeUnsigned(body);
  const rebuilt = encodeBody(
    announceKeySet(current, text, signers.length, announcement.created),
    signers,
  );
  check(Buffer.from(rebuilt).equals(body), 'the announcement is not that of the key set', altered);
  checkSignersAreRoots(signers, current);
  for (const [id, signature] of signatures) {
    check(
      signers.includes(id),
      `it has a signature of ${id}, which is not one of its signers`,
      altered,
    );
    // One signature alone: with a threshold of 1, the rules of a node are the rules for it.
    const signed: SignedAnnouncement = {
      announcement,
      signers: [id],
      body,
      signatures: [signature],
    };
    verifyAnnouncement(signed, { ...current, rootThreshold: 1 });
  }
  return { next, text, announcement, signers, body, signatures };
}

function checkFollows(next: KeySet, current: KeySet): void {
  if (next.fleet !== current.fleet)
    throw new UpdateError('untrusted', `the proposal is for fleet ${next.fleet}`, {
      hint: `the key set in force here is of fleet ${current.fleet}`,
    });
  const { epoch } = current;
  if (next.epoch === epoch + 1) return;
  throw new UpdateError(
    'refused',
    `the proposal is for key set ${next.epoch}, and ${epoch} is in force here`,
    {
      hint:
        next.epoch <= epoch
          ? `it is done, or too late; to repeat the event: ${commandHint('submit', '--resend', `${keySetChannel}@${next.epoch}`)}`
          : 'this machine has to follow the chain first, or be given the newer key set',
    },
  );
}

function checkSignersAreRoots(signers: readonly string[], current: KeySet): void {
  const roots = current.rootKeys.map(({ id }) => id);
  const strange = signers.find((id) => !roots.includes(id));
  if (strange === undefined && signers.length >= current.rootThreshold) return;
  throw new UpdateError(
    'untrusted',
    strange === undefined
      ? `only ${signers.length} would sign, and ${current.rootThreshold} root keys must`
      : `${strange} is to sign, and is not a root key of key set ${current.epoch}`,
    { hint: `the root keys are ${roots.join(', ')}: make a new proposal` },
  );
}

/** Decodes a body with blank signatures: the decoder takes whole announcements and verifies nothing. */
function decodeUnsigned(body: Uint8Array): SignedAnnouncement {
  const count = body[3] ?? 0;
  check(count >= 1 && count <= 3, 'the announcement is damaged', altered);
  const blank = Array.from({ length: count }, () => new Uint8Array(signatureBytes));
  return decodeAnnouncement(encodeAnnouncement(body, blank));
}
