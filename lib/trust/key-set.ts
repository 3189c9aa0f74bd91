import { isChannel } from '../announcement/fields.ts';
import { UpdateError } from '../errors.ts';
import { type PublicKey, publicKeyFromRaw } from './ed25519.ts';

/** The keys that may sign for a fleet, and how many of them must. */
export interface KeySet {
  /** The fleet id, 1 to 64 printable ASCII characters without a space. */
  fleet: string;
  /** 1 to 2^32-1; each new key set has the next number. */
  epoch: number;
  /** Number of root keys that must sign the next key set. */
  rootThreshold: number;
  /** 1 to 3, by ascending id. */
  rootKeys: PublicKey[];
  /** Number of release keys that must sign an announcement. */
  releaseThreshold: number;
  /** 1 to 3, by ascending id. */
  releaseKeys: ReleaseKey[];
}

export interface ReleaseKey {
  key: PublicKey;
  /** The channels that it may sign for, ascending, 1 to 64; null is all. */
  channels: string[] | null;
}

const firstLine = 'p2p-update key set 1';
const maxKeys = 3;
const maxChannels = 64;
/** Three keys with 64 channels of 24 characters each come to about 5,600. */
const maxKeySetChars = 8192;

/** True for 1 to 64 printable ASCII characters without a space. */
export function isFleetId(text: string): boolean {
  return /^[!-~]{1,64}$/.test(text);
}

/**
 * Formats a key set as its one text, lines of printable ASCII (docs/announcement.md#key-set). Its bytes,
 * whole, are the content of a key-set announcement. Keys and channels may come in any order.
 *
 * @throws UpdateError `malformed` when a rule of docs/announcement.md is broken
 */
export function formatKeySet(keySet: KeySet): string {
  const { fleet, epoch, rootThreshold, rootKeys, releaseThreshold, releaseKeys } = keySet;
  check(isFleetId(fleet), 'the fleet id must be 1 to 64 printable ASCII characters, no space');
  check(isCount(epoch, 2 ** 32 - 1), 'the epoch must be a whole number from 1 to 4294967295');
  checkKeys('root', rootKeys.length, rootThreshold);
  checkKeys('release', releaseKeys.length, releaseThreshold);
  // A key in both roles would keep a root key on line, within reach of a thief of release keys.
  const ids = [...rootKeys, ...releaseKeys.map(({ key }) => key)].map(({ id }) => id);
  check(new Set(ids).size === ids.length, 'a key is listed twice');
  const lines = [
    firstLine,
    `fleet ${fleet}`,
    `epoch ${epoch}`,
    `root threshold ${rootThreshold}`,
    ...rootKeys.map((key) => `root key ${keyText(key)}`).sort(),
    `release threshold ${releaseThreshold}`,
    ...releaseKeys
      .map(({ key, channels }) => `release key ${keyText(key)} channels ${channelsText(channels)}`)
      .sort(),
  ];
  return `${lines.join('\n')}\n`;
}

/**
 * Parses a key set. Only its one text passes, byte for byte.
 *
 * @throws UpdateError `malformed`, or `untrusted` for a key that is not sound
 */
export function parseKeySet(text: string): KeySet {
  check(text.length <= maxKeySetChars, `the key set is longer than ${maxKeySetChars} characters`);
  const lines = text.split('\n');
  const [first = ''] = lines;
  check(/^p2p-update key set \d+$/.test(first), `a key set begins with the line "${firstLine}"`);
  check(
    first === firstLine,
    'the form of this key set is not known here: newer software needed',
    'install the newer p2p-update on this node',
  );

  const values = (keyword: string): string[] =>
    lines.filter((line) => line.startsWith(`${keyword} `)).map((l) => l.slice(keyword.length + 1));
  const number = (keyword: string): number => Number(values(keyword)[0]);
  const keySet: KeySet = {
    fleet: values('fleet')[0] ?? '',
    epoch: number('epoch'),
    rootThreshold: number('root threshold'),
    rootKeys: values('root key').map(parseKey),
    releaseThreshold: number('release threshold'),
    releaseKeys: values('release key').map((value) => ({
      key: parseKey(value),
      channels: parseChannels(value.split(' ')[3] ?? ''),
    })),
  };
  // Above, order, spaces, repeated lines and ids are not checked: the one text of the result decides.
  const canonical = formatKeySet(keySet).split('\n');
  const wrong = lines.findIndex((line, i) => line !== canonical[i]);
  const wanted = JSON.stringify(canonical[wrong] || 'the end of the text');
  check(wrong === -1, `line ${wrong + 1} of the key set must be ${wanted}`);
  check(lines.length === canonical.length, 'the key set is cut off');
  return keySet;
}

/** Parses `<id> <key in hex> …`; the id is derived anew. */
function parseKey(value: string): PublicKey {
  return publicKeyFromRaw(Buffer.from(value.split(' ')[1] ?? '', 'hex'));
}

function keyText(key: PublicKey): string {
  return `${key.id} ${Buffer.from(key.raw).toString('hex')}`;
}

function parseChannels(text: string): string[] | null {
  return text === '*' ? null : text.split(',');
}

function channelsText(channels: readonly string[] | null): string {
  if (channels === null) return '*';
  const isList = channels.length >= 1 && channels.length <= maxChannels;
  check(isList && channels.every(isChannel), 'a release key needs 1 to 64 channels, or * for all');
  check(new Set(channels).size === channels.length, 'a channel is listed twice for one key');
  return [...channels].sort().join(',');
}

function checkKeys(role: string, count: number, threshold: number): void {
  check(isCount(count, maxKeys), `there must be 1 to ${maxKeys} ${role} keys`);
  check(
    isCount(threshold, count),
    `the ${role} threshold must be 1 to the number of ${role} keys, ${count}`,
  );
}

function isCount(value: number, max: number): boolean {
  return Number.isInteger(value) && value >= 1 && value <= max;
}

function check(
  holds: boolean,
  message: string,
  hint = 'use the file that keygen made, unchanged; docs/announcement.md has its form',
): void {
  if (!holds) throw new UpdateError('malformed', message, { hint });
}
