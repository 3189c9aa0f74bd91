import { createHash } from 'node:crypto';
import { UpdateError } from '../errors.ts';
import { isRecord, parseJson } from '../system/json.ts';
import { parseKeySet } from './key-set.ts';

/** The secret by which a machine becomes a node: whoever holds it can gossip with the fleet, not sign for it. */
export interface Invitation {
  /** Canonical text of a key set of the fleet, which the new node trusts at first. */
  keySet: string;
  /** Serf's `encrypt_key`: 16, 24 or 32 bytes in base64. */
  gossipKey: string;
  /** Members to join, 1 to 8: `host` or `host:port`. */
  join: string[];
}

/** First characters of every invitation, which also tell its version. */
const prefix = 'p2p1-';
const checksumBytes = 6;
/** A key set of 5,600 characters, with the rest, in base64. */
const maxChars = 16_384;

/** True for a member's address that can stand in a file and in a shell's command: `host` or `host:port`. */
export function isJoinAddress(text: string): boolean {
  return /^[\w[][\w.:[\]%-]{0,254}$/.test(text);
}

/** True for a key that Serf takes as `encrypt_key`. */
export function isGossipKey(text: string): boolean {
  const bytes = Buffer.from(text, 'base64');
  return bytes.toString('base64') === text && [16, 24, 32].includes(bytes.length);
}

/** Formats an invitation as one word of letters, digits, `-` and `_`. */
export function formatInvitation({ keySet, gossipKey, join }: Invitation): string {
  const body = Buffer.from(JSON.stringify({ keySet, gossipKey, join }));
  return prefix + Buffer.concat([checksum(body), body]).toString('base64url');
}

/**
 * Parses an invitation; white space around it is no part of it.
 *
 * @throws UpdateError `malformed`; no message repeats any of the text, which is a secret
 */
export function parseInvitation(text: string): Invitation {
  const word = text.trim();
  if (word === '') throw malformed('it is empty');
  if (!word.startsWith(prefix) || word.length > maxChars || !/^[\w-]+$/.test(word))
    throw malformed(`it does not look like one, ${prefix} and a long word`);
  const bytes = Buffer.from(word.slice(prefix.length), 'base64url');
  const body = bytes.subarray(checksumBytes);
  // A paste loses its end, or a letter, more easily than one sees.
  if (!checksum(body).equals(bytes.subarray(0, checksumBytes)))
    throw malformed('a part of it is missing or was changed');
  const value = parseJson(body.toString());
  const { keySet, gossipKey, join } = isRecord(value) ? value : {};
  if (typeof keySet !== 'string' || typeof gossipKey !== 'string' || !isGossipKey(gossipKey))
    throw malformed('its keys cannot be used');
  parseKeySet(keySet);
  if (!Array.isArray(join) || join.length < 1 || join.length > 8)
    throw malformed('it names no member to join');
  const addresses = join.filter((each): each is string => typeof each === 'string');
  if (addresses.length < join.length || !addresses.every(isJoinAddress))
    throw malformed('an address in it cannot be used');
  return { keySet, gossipKey, join: addresses };
}

function checksum(body: Uint8Array): Buffer {
  return createHash('sha256').update(body).digest().subarray(0, checksumBytes);
}

function malformed(why: string): UpdateError {
  return new UpdateError('malformed', `the invitation cannot be used: ${why}`, {
    hint: 'take the whole line again, as p2p-update invite prints it on a node of the fleet',
  });
}
