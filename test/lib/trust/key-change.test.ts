import { generateKeyPairSync } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { type PublicKey, publicKeyOf } from '../../../lib/trust/ed25519.ts';
import {
  describeKeyChange,
  type KeyChange,
  nextKeySet,
  signableChannels,
} from '../../../lib/trust/key-change.ts';
import type { KeySet, ReleaseKey } from '../../../lib/trust/key-set.ts';
import { chooseSigners } from '../../../lib/trust/root-signers.ts';
import { refusal } from '../../support/run/refusal.ts';

const sorted = (keys: PublicKey[]): PublicKey[] => keys.sort((a, b) => (a.id < b.id ? -1 : 1));
const make = (count: number): PublicKey[] =>
  sorted(
    Array.from({ length: count }, () => publicKeyOf(generateKeyPairSync('ed25519').publicKey)),
  );

const [r1, r2, r3] = make(3) as [PublicKey, PublicKey, PublicKey];
const [k1, k2, k3] = make(3) as [PublicKey, PublicKey, PublicKey];
const [fresh] = make(1) as [PublicKey];

const release = (key: PublicKey, ...channels: string[]): ReleaseKey => ({
  key,
  channels: channels.length === 0 ? null : channels,
});

function keySet(change: Partial<KeySet> = {}): KeySet {
  return {
    fleet: 'example',
    epoch: 7,
    rootThreshold: 2,
    rootKeys: [r1, r2],
    releaseThreshold: 1,
    releaseKeys: [release(k1), release(k2, 'web')],
    ...change,
  };
}

describe('nextKeySet', () => {
  it.each<[string, KeyChange, Partial<KeySet>, string[]]>([
    [
      'adds a release key for all channels',
      { add: { role: 'release', key: k3, channels: null } },
      { releaseKeys: [release(k1), release(k2, 'web'), release(k3)] },
      [`adds release key ${k3.id}, all channels`],
    ],
    [
      'adds a limited release key, and raises the threshold',
      { add: { role: 'release', key: k3, channels: ['web', 'db'] }, releaseThreshold: 2 },
      {
        releaseKeys: [release(k1), release(k2, 'web'), release(k3, 'web', 'db')],
        releaseThreshold: 2,
      },
      [`adds release key ${k3.id}, channels db, web`, 'release threshold 1 -> 2'],
    ],
    [
      'adds a root key',
      { add: { role: 'root', key: r3 }, rootThreshold: 3 },
      { rootKeys: [r1, r2, r3], rootThreshold: 3 },
      [`adds root key ${r3.id}`, 'root threshold 2 -> 3'],
    ],
    [
      'removes keys of both roles',
      { remove: [k2.id, r1.id], rootThreshold: 1 },
      { rootKeys: [r2], rootThreshold: 1, releaseKeys: [release(k1)] },
      [`removes root key ${r1.id}`, `removes release key ${k2.id}`, 'root threshold 2 -> 1'],
    ],
    [
      'limits a release key',
      { limit: { id: k1.id, channels: ['db'] } },
      { releaseKeys: [release(k1, 'db'), release(k2, 'web')] },
      [`release key ${k1.id}: all channels -> channel db`],
    ],
    [
      'lifts the limit of a release key',
      { limit: { id: k2.id, channels: null } },
      { releaseKeys: [release(k1), release(k2)] },
      [`release key ${k2.id}: channel web -> all channels`],
    ],
  ])('makes a key set that %s', (_, change, expected, words) => {
    const current = keySet();
    const next = nextKeySet(current, change);
    expect(next).toEqual({ ...current, epoch: 8, ...expected });
    expect(describeKeyChange(current, next)).toEqual(words);
    expect(current).toEqual(keySet());
  });

  const three = keySet({ releaseKeys: [release(k1), release(k2), release(k3)] });
  it.each<[string, KeySet, KeyChange, string, RegExp]>([
    ['no change', keySet(), {}, 'refused', /would be the same/],
    ['the same threshold', keySet(), { rootThreshold: 2 }, 'refused', /would be the same/],
    ['no release key', keySet(), { remove: [k1.id, k2.id] }, 'refused', /no release key/],
    ['no root key', keySet(), { remove: [r1.id, r2.id] }, 'refused', /no root key/],
    [
      'root keys below the threshold',
      keySet(),
      { remove: [r2.id] },
      'refused',
      /1 root key could not reach the root threshold of 2/,
    ],
    [
      'release keys below the threshold',
      keySet({ releaseThreshold: 2 }),
      { remove: [k2.id] },
      'refused',
      /1 release key could not reach/,
    ],
    [
      'a threshold above the keys',
      keySet(),
      { releaseThreshold: 3 },
      'refused',
      /2 release keys could not reach the release threshold of 3/,
    ],
    [
      'a fourth key',
      three,
      { add: { role: 'release', key: fresh, channels: null } },
      'refused',
      /4 release keys, and 3 are the most/,
    ],
    [
      'a key twice',
      keySet(),
      { add: { role: 'release', key: k1, channels: null } },
      'refused',
      /is a release key of this key set already/,
    ],
    [
      'a root key as release key',
      keySet(),
      { add: { role: 'release', key: r1, channels: null } },
      'refused',
      /is a root key of this key set already/,
    ],
    [
      'a release key as root key',
      keySet(),
      { add: { role: 'root', key: k1 } },
      'refused',
      /is a release key of this key set already/,
    ],
    ['an unknown id', keySet(), { remove: ['00000000'] }, 'usage', /no key has the id/],
    ['no id at all', keySet(), { remove: [''] }, 'usage', /no key has the id ""/],
    [
      'text that is no id',
      keySet(),
      { remove: ['\u001b[2J'] },
      'usage',
      /no key has the id "\\u001b/,
    ],
    [
      'channels of a root key',
      keySet(),
      { limit: { id: r1.id, channels: ['web'] } },
      'usage',
      /no release key has the id/,
    ],
    [
      'a channel that is none',
      keySet(),
      { limit: { id: k1.id, channels: ['No'] } },
      'malformed',
      /channels/,
    ],
    [
      'no channel that enough keys share',
      keySet({ releaseKeys: [release(k1, 'db'), release(k2, 'web')] }),
      { releaseThreshold: 2 },
      'refused',
      /no channel would have the 2 release keys/,
    ],
  ])('refuses a change to %s', (_, current, change, code, message) => {
    const error = refusal(() => nextKeySet(current, change));
    expect(error).toMatchObject({ code });
    expect(error.message).toMatch(message);
    expect(error.hint).not.toBe('');
  });

  it('finds a key by the beginning of its id, unless others share it', () => {
    const named = (id: string): PublicKey => ({ ...fresh, id });
    const current = keySet({
      releaseKeys: [release(named('aa11000000000000')), release(named('aa22000000000000'))],
    });
    const next = nextKeySet(current, { remove: ['aa1'] });
    expect(next.releaseKeys.map(({ key }) => key.id)).toEqual(['aa22000000000000']);
    const error = refusal(() => nextKeySet(current, { remove: ['aa'] }));
    expect(error.message).toMatch(/several keys have ids that begin with aa/);
    expect(error.hint).toMatch(/aa11000000000000, aa22000000000000/);
  });

  it.each<[ReleaseKey[], number, string[] | null]>([
    [[release(k1)], 1, null],
    [[release(k1), release(k2, 'web')], 1, null],
    [[release(k1), release(k2, 'web', 'db')], 2, ['db', 'web']],
    [[release(k1, 'a', 'b'), release(k2, 'b', 'c')], 2, ['b']],
    [[release(k1, 'a'), release(k2, 'b')], 1, ['a', 'b']],
    [[release(k1, 'a'), release(k2, 'b')], 2, []],
  ])(
    'leaves the channels that enough keys may sign for: %#',
    (releaseKeys, threshold, channels) => {
      const set = keySet({ releaseKeys, releaseThreshold: threshold });
      expect(signableChannels(set)).toEqual(channels);
    },
  );
});

describe('chooseSigners', () => {
  const two = { rootThreshold: 2, rootKeys: [r1, r2] };
  const ofThree = { rootThreshold: 2, rootKeys: [r1, r2, r3] };
  it.each<[string, Partial<KeySet>, string[], string[], string[]]>([
    ['the only root key', { rootThreshold: 1, rootKeys: [r1] }, [r1.id], [], [r1.id]],
    ['one root key of two, with a threshold of 1', { rootThreshold: 1 }, [r2.id], [], [r2.id]],
    ['all root keys, when all are needed', two, [r2.id], [], [r1.id, r2.id]],
    ['the root keys that are named', ofThree, [r3.id], [r1.id.slice(0, 12)], [r1.id, r3.id]],
    [
      'more root keys than needed, when they are named',
      ofThree,
      [r3.id],
      [r1.id, r2.id],
      [r1.id, r2.id, r3.id],
    ],
    ['all root keys that sign now', ofThree, [r1.id, r2.id, r3.id], [], [r1.id, r2.id, r3.id]],
  ])('chooses %s', (_, change, given, others, expected) => {
    expect(chooseSigners(keySet(change), given, others)).toEqual(expected);
  });

  it.each<[string, string[], string[], RegExp]>([
    ['no other key is named', [r1.id], [], /asks for 2 root keys, and 1 would sign/],
    ['the same key is named', [r1.id], [r1.id], /asks for 2 root keys, and 1 would sign/],
    ['a release key is named', [r1.id], [k1.id], /no root key has the id/],
  ])('asks for the signers when %s', (_, given, others, message) => {
    const error = refusal(() => chooseSigners(keySet(ofThree), given, others));
    expect(error).toMatchObject({ code: 'usage' });
    expect(error.message).toMatch(message);
  });
});
