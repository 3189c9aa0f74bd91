import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { decodeAnnouncement, encodeBody } from '../../../lib/announcement/codec.ts';
import { publicKeyOf } from '../../../lib/trust/ed25519.ts';
import { nextKeySet } from '../../../lib/trust/key-change.ts';
import { formatProposal } from '../../../lib/trust/key-proposal-file.ts';
import {
  completePayload,
  type KeyProposal,
  missingSigners,
  parseProposal,
  proposeKeySet,
  signProposal,
} from '../../../lib/trust/key-proposal.ts';
import { formatKeySet, type KeySet, parseKeySet } from '../../../lib/trust/key-set.ts';
import type { Signer } from '../../../lib/trust/signing.ts';
import { signBody, verifyAnnouncement } from '../../../lib/trust/verify.ts';
import { refusal } from '../../support/run/refusal.ts';

const makeSigner = (): Signer => {
  const key: KeyObject = generateKeyPairSync('ed25519').privateKey;
  return { key, id: publicKeyOf(key).id };
};
const makeSigners = (count: number): Signer[] =>
  Array.from({ length: count }, makeSigner).sort((a, b) => (a.id < b.id ? -1 : 1));

const roots = makeSigners(3) as [Signer, Signer, Signer];
const [release, fresh] = [makeSigner(), makeSigner()];
const current: KeySet = {
  fleet: 'example',
  epoch: 7,
  rootThreshold: 2,
  rootKeys: roots.map(({ key }) => publicKeyOf(key)),
  releaseThreshold: 1,
  releaseKeys: [{ key: publicKeyOf(release.key), channels: null }],
};
const add = { role: 'release', key: publicKeyOf(fresh.key), channels: null } as const;
const next = nextKeySet(current, { add });
const ids = [roots[0].id, roots[1].id];
const unsigned = proposeKeySet(current, next, ids, 1_800_000_000);
const complete = [roots[0], roots[1]].reduce(signProposal, unsigned);

/** The proposal file with some of its fields replaced. */
function edited(proposal: KeyProposal, change: Record<string, unknown>): string {
  return JSON.stringify({ ...(JSON.parse(formatProposal(proposal)) as object), ...change });
}

const base64url = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64url');

describe('a proposal', () => {
  it('holds the announcement of the next key set, for every node and without an expiry', () => {
    expect(unsigned.announcement).toMatchObject({
      kind: 'keyset',
      channel: 'keyset',
      name: 'keyset-8.txt',
      epoch: 7,
      version: 8,
      created: 1_800_000_000,
      notBefore: 0,
      expires: 4_294_967_295,
      target: '',
      noop: false,
      rerun: false,
    });
    expect(unsigned.text).toBe(formatKeySet(next));
    expect(parseKeySet(unsigned.text)).toEqual(next);
    expect(unsigned.announcement.length).toBe(unsigned.text.length);
  });

  it('goes through its file from one signer to the next, until it is complete', () => {
    const first = parseProposal(formatProposal(signProposal(unsigned, roots[1])), current);
    expect(missingSigners(first)).toEqual([roots[0].id]);
    expect(refusal(() => completePayload(first, current))).toMatchObject({
      code: 'refused',
      message: `root key ${roots[0].id} has not signed yet`,
    });
    const second = parseProposal(formatProposal(signProposal(first, roots[0])), current);
    expect(missingSigners(second)).toEqual([]);
    const payload = completePayload(second, current);
    expect(payload.length).toBeLessThanOrEqual(468);
    const signed = decodeAnnouncement(payload);
    expect(signed.signers).toEqual(ids);
    verifyAnnouncement(signed, current);
    expect(second).toEqual({ ...complete, signatures: second.signatures });
    expect(formatProposal(second)).toBe(formatProposal(complete));
  });

  it('fits one event by default with three signers, 64 channels each and the last epoch', () => {
    const channels = Array.from({ length: 64 }, (_, i) => `${i}`.padStart(24, 'c'));
    const large: KeySet = {
      ...current,
      epoch: 4_294_967_294,
      releaseKeys: makeSigners(3).map(({ key }) => ({ key: publicKeyOf(key), channels })),
    };
    const all = roots.map(({ id }) => id);
    const after = nextKeySet(large, { rootThreshold: 3 });
    const proposal = roots.reduce(signProposal, proposeKeySet(large, after, all, 4_000_000_000));
    const read = parseProposal(formatProposal(proposal), large);
    expect(completePayload(read, large).length).toBeLessThanOrEqual(468);
  });

  const other: KeySet = { ...current, fleet: 'elsewhere' };
  const later: KeySet = { ...current, epoch: 8 };
  const earlier: KeySet = { ...current, epoch: 6 };
  const strangers: KeySet = {
    ...current,
    rootKeys: makeSigners(3).map(({ key }) => publicKeyOf(key)),
  };
  it.each<[string, KeySet, string, RegExp]>([
    ['the key set of another fleet', other, 'untrusted', /is for fleet example/],
    ['a later key set', later, 'refused', /for key set 8, and 8 is in force here/],
    ['an earlier key set', earlier, 'refused', /for key set 8, and 6 is in force here/],
    ['other root keys', strangers, 'untrusted', /is not a root key of key set 7/],
    [
      'a higher threshold',
      { ...current, rootThreshold: 3 },
      'untrusted',
      /only 2 would sign, and 3 root keys must/,
    ],
  ])('is refused on a machine with %s', (_, trusted, code, message) => {
    const error = refusal(() => parseProposal(formatProposal(complete), trusted));
    expect(error).toMatchObject({ code });
    expect(error.message).toMatch(message);
  });

  const signature = base64url(complete.signatures.get(roots[0].id) ?? new Uint8Array());
  const mallory = nextKeySet(current, { add: { ...add, key: publicKeyOf(makeSigner().key) } });
  const rebuilt = (change: Partial<KeyProposal['announcement']>, signers = ids): string =>
    base64url(encodeBody({ ...unsigned.announcement, ...change }, signers));
  it.each<[string, Record<string, unknown> | string, string, RegExp]>([
    ['rubbish', 'hello', 'malformed', /not a proposal/],
    ['a list', '[]', 'malformed', /not a proposal/],
    ['other JSON', '{"a":1}', 'malformed', /not a proposal/],
    ['more than 32,768 characters', `"${'x'.repeat(40_000)}"`, 'malformed', /too long/],
    ['a later form', { p2pUpdateKeyProposal: 2 }, 'malformed', /newer software needed/],
    ['an unknown field', { more: 1 }, 'malformed', /damaged/],
    ['no key set', { keySet: null }, 'malformed', /damaged/],
    ['a key set cut off', { keySet: unsigned.text.slice(0, -1) }, 'malformed', /key set/],
    ['another key set', { keySet: formatKeySet(mallory) }, 'malformed', /not that of the key set/],
    ['no body', { body: '' }, 'malformed', /damaged/],
    ['a body cut off', { body: base64url(unsigned.body.subarray(0, 90)) }, 'malformed', /cut off/],
    ['a body with padding', { body: `${base64url(unsigned.body)}==` }, 'malformed', /damaged/],
    [
      'another content',
      { body: rebuilt({ sha256: 'ab'.repeat(32) }) },
      'malformed',
      /not that of the key set/,
    ],
    ['an expiry', { body: rebuilt({ expires: 1_900_000_000 }) }, 'malformed', /not that of/],
    ['another name', { body: rebuilt({ name: 'other.txt' }) }, 'malformed', /not that of/],
    ['another kind', { body: rebuilt({ kind: 'file', channel: 'a' }) }, 'malformed', /not that of/],
    [
      'a release key as signer',
      { body: rebuilt({}, [release.id, roots[0].id].sort()), signatures: {} },
      'untrusted',
      /is not a root key/,
    ],
    [
      'too few signers',
      { body: rebuilt({}, [roots[0].id]), signatures: {} },
      'untrusted',
      /only 1 would sign/,
    ],
    [
      'a signature of a key that is not a signer',
      { signatures: { [roots[2].id]: signature } },
      'malformed',
      /which is not one of its signers/,
    ],
    [
      'a signature of another key',
      { signatures: { [roots[1].id]: signature } },
      'untrusted',
      /signature/,
    ],
    [
      'a signature of another body',
      {
        signatures: {
          [roots[0].id]: base64url(
            signBody(Buffer.from(rebuilt({ created: 1 }), 'base64url'), 'example', roots[0].key),
          ),
        },
      },
      'untrusted',
      /signature/,
    ],
    ['a signature cut off', { signatures: { [roots[0].id]: 'AAAA' } }, 'malformed', /is damaged/],
    ['a signature of no text', { signatures: { [roots[0].id]: 7 } }, 'malformed', /is damaged/],
  ])('is refused with %s', (_, change, code, message) => {
    const json = typeof change === 'string' ? change : edited(complete, change);
    const error = refusal(() => parseProposal(json, current));
    expect(error).toMatchObject({ code });
    expect(error.message).toMatch(message);
    expect(error.hint).not.toBe('');
  });

  it('is refused with any character of its body or signatures changed', () => {
    const fields = JSON.parse(formatProposal(complete)) as {
      body: string;
      signatures: Record<string, string>;
    };
    const change = (text: string, at: number): string =>
      text.slice(0, at) + (text[at] === 'A' ? 'B' : 'A') + text.slice(at + 1);
    for (let at = 0; at < fields.body.length; at += 1)
      refusal(() => parseProposal(edited(complete, { body: change(fields.body, at) }), current));
    for (const [id, text] of Object.entries(fields.signatures))
      for (let at = 0; at < text.length; at += 1) {
        const signatures = { ...fields.signatures, [id]: change(text, at) };
        refusal(() => parseProposal(edited(complete, { signatures }), current));
      }
  });
});
