import { describe, expect, it } from 'vitest';
import {
  decodeAnnouncement,
  encodeAnnouncement,
  encodeBody,
} from '../../lib/announcement/codec.ts';
import type { Announcement } from '../../lib/announcement/fields.ts';
import {
  makeAnnouncement,
  makeKeys,
  signAnnouncement,
  type TestKeys,
} from '../support/fleet/announce.ts';
import { UpdateNode } from '../support/fleet/update-node.ts';

// Splice and mix-and-match: one signature covers every field, so no part of one genuine announcement
// can be put into another.

const now = Math.floor(Date.now() / 1000);
const two = makeKeys('test-fleet', 2);
/** Two release keys, of which one suffices. */
const keys: TestKeys = { ...two, keySet: { ...two.keySet, releaseThreshold: 1 } };
const [keyOne = [], keyTwo = []] = keys.releaseKeys.map((key) => [key]);

/** Two announcements that have no field alike, and of which each field fits into the other. */
const first = makeAnnouncement({
  version: now,
  created: now - 10,
  expires: now + 3600,
  length: 20_000,
  pieces: Buffer.alloc(40, 1),
});
const second: Announcement = {
  kind: 'environment',
  noop: true,
  rerun: true,
  epoch: 0,
  version: now + 1,
  created: now - 20,
  notBefore: now + 5,
  expires: now + 7200,
  infoHash: 'ab'.repeat(20),
  sha256: 'cd'.repeat(32),
  length: 30_000,
  pieceLength: 16_384,
  channel: 'web',
  name: 'other.zip',
  target: 'role=web',
  pieces: Buffer.alloc(40, 2),
};
const noPieces = { pieces: new Uint8Array() };
const withdrawal: Partial<Announcement> = {
  ...noPieces,
  kind: 'withdraw',
  infoHash: '0'.repeat(40),
  sha256: '0'.repeat(64),
  length: 0,
  pieceLength: 0,
};
const keySetUpdate: Partial<Announcement> = {
  kind: 'keyset',
  channel: 'keyset',
  epoch: 1,
  version: 2,
  name: 'keyset-2.txt',
  expires: 2 ** 32 - 1,
};

/** The piece length has a case of its own: the number of pieces follows from it. */
const allFields = (Object.keys(second) as (keyof Announcement)[]).filter(
  (field) => field !== 'pieceLength',
);

type Case = [what: string, Announcement, Announcement, (keyof Announcement)[]];
const cases: Case[] = [
  ...allFields.map((field): Case => [field, first, second, [field]]),
  [
    'pieceLength',
    { ...first, ...noPieces },
    { ...second, ...noPieces, pieceLength: 32_768 },
    ['pieceLength'],
  ],
  ['content', first, second, ['infoHash', 'sha256', 'length', 'pieces']],
  ['fields, all but the channel', first, second, allFields.filter((field) => field !== 'channel')],
  [
    'channel, when both are withdrawals',
    makeAnnouncement({ ...withdrawal, channel: 'web' }),
    makeAnnouncement({ ...withdrawal, channel: 'default' }),
    ['channel'],
  ],
  [
    'content, when both are key sets',
    makeAnnouncement({ ...keySetUpdate, sha256: '11'.repeat(32) }),
    makeAnnouncement({ ...keySetUpdate, sha256: '22'.repeat(32) }),
    ['sha256'],
  ],
];

/** `into` with some fields of `from`, under the signatures of `into`. */
function splice(
  into: string,
  from: Announcement,
  fields: readonly (keyof Announcement)[],
  signers?: string[],
): string {
  const { announcement, signatures, signers: own } = decodeAnnouncement(into);
  const taken = Object.fromEntries(fields.map((field) => [field, from[field]]));
  const body = encodeBody({ ...announcement, ...taken }, signers ?? own);
  return encodeAnnouncement(body, signatures);
}

/** Of a node that holds something already; the genuine one is accepted afterwards. */
function expectUntrusted(payloads: string[], genuine: string): void {
  const node = new UpdateNode(keys);
  const held = signAnnouncement(makeAnnouncement({ channel: 'held' }), keys);
  expect(node.handle(held).status).toBe(0);
  for (const payload of payloads)
    node.expectRefusal(() => node.handle(payload), 77, /does not verify/);
  expect(node.handle(genuine).status).toBe(0);
}

describe('the update handler refuses a genuine announcement', () => {
  it.each(cases)('with another one’s %s', (_, a, b, fields) => {
    for (const field of fields) expect(a[field]).not.toEqual(b[field]);
    const signed = (announcement: Announcement): string =>
      signAnnouncement(announcement, keys, announcement.kind === 'keyset' ? undefined : keyOne);
    expectUntrusted([splice(signed(a), b, fields), splice(signed(b), a, fields)], signed(a));
  });

  it('with another one’s signature', () => {
    const genuine = signAnnouncement(first, keys, keyOne);
    const { signatures } = decodeAnnouncement(signAnnouncement(second, keys, keyOne));
    expectUntrusted([encodeAnnouncement(decodeAnnouncement(genuine).body, signatures)], genuine);
  });

  it('with another one’s signer', () => {
    const genuine = signAnnouncement(first, keys, keyOne);
    const { signers } = decodeAnnouncement(signAnnouncement(second, keys, keyTwo));
    expectUntrusted([splice(genuine, first, [], signers)], genuine);
  });

  it('with another one’s signer and signature beside its own', () => {
    const genuine = signAnnouncement({ ...first, ...noPieces }, keys, keyOne);
    const other = decodeAnnouncement(signAnnouncement(second, keys, keyTwo));
    const own = decodeAnnouncement(genuine);
    const pairs = [own, other]
      .map(({ signers, signatures }) => ({ id: signers[0] ?? '', signature: signatures[0] }))
      .sort((a, b) => (a.id < b.id ? -1 : 1));
    const ids = pairs.map(({ id }) => id);
    const body = encodeBody(own.announcement, ids);
    const signatures = pairs.flatMap(({ signature }) => signature ?? []);
    expectUntrusted([encodeAnnouncement(body, signatures)], genuine);
  });

  it('with one of its two signers left out', () => {
    const genuine = signAnnouncement({ ...first, ...noPieces }, keys);
    const { announcement, signers, signatures } = decodeAnnouncement(genuine);
    const payloads = [0, 1].map((index) => {
      const body = encodeBody(announcement, signers.slice(index, index + 1));
      return encodeAnnouncement(body, signatures.slice(index, index + 1));
    });
    expectUntrusted(payloads, genuine);
  });

  it('of another fleet that trusts the same keys', () => {
    const elsewhere = { ...keys, keySet: { ...keys.keySet, fleet: 'other-fleet' } };
    expectUntrusted([signAnnouncement(first, elsewhere)], signAnnouncement(first, keys, keyOne));
  });
});
