import { describe, expect, it } from 'vitest';
import {
  decide,
  maxChannels,
  maxVersionStep,
  type DecisionInput,
} from '../../../lib/state/decide.ts';

const now = 1_900_000_000;

const newest: DecisionInput = {
  kind: 'manifest',
  channel: 'default',
  version: now,
  created: now - 5,
  expires: now + 86_400,
  length: 1000,
  isForUs: true,
  stored: 'none',
  mark: now - 100,
  knownChannels: new Set(['default']),
  allowedChannels: null,
  maxContentBytes: 1_000_000,
  nowSeconds: now,
  buildTime: now - 1_000_000,
};

const manyChannels = new Set(Array.from({ length: maxChannels }, (_, i) => `channel-${i}`));

describe('decide', () => {
  it.each<[string, Partial<DecisionInput>, string, RegExp]>([
    ['a newer version', {}, 'accept', /newer than/],
    ['the first of a channel', { mark: 0 }, 'accept', /first/],
    ['a bare torrent without an expiry', { expires: null, kind: null }, 'accept', /newer/],
    ['an old date with a newer version', { created: 1, version: now }, 'accept', /newer/],
    ['the largest allowed step', { version: now + maxVersionStep }, 'accept', /newer/],
    ['a key set of any date', { kind: 'keyset', created: now + 9e7 }, 'accept', /newer/],
    ['a clock a little ahead of ours', { created: now + 600 }, 'accept', /newer/],
    ['content of exactly the limit', { length: 1_000_000 }, 'accept', /newer/],
    ['a followed channel', { allowedChannels: ['default'] }, 'accept', /newer/],
    ['the same bytes again', { stored: 'same', mark: now }, 'ring', /already/],
    ['the same bytes, once superseded', { stored: 'same', mark: now + 5 }, 'refuse', /older/],
    [
      'the same bytes, once expired',
      { stored: 'same', mark: now, expires: now - 1 },
      'ring',
      /already/,
    ],
    ['other bytes of the same version', { stored: 'other', mark: now }, 'refuse', /equivocation/],
    ['the mark itself', { mark: now }, 'refuse', /older than/],
    ['one below the mark', { mark: now + 1 }, 'refuse', /older than/],
    ['a newer date with an older version', { version: 5, created: now }, 'refuse', /older than/],
    ['a channel that is not followed', { allowedChannels: ['lab'] }, 'refuse', /does not follow/],
    ['a 65th channel', { mark: 0, knownChannels: manyChannels }, 'refuse', /64 channels/],
    ['too much content', { length: 1_000_001 }, 'refuse', /at most 1000000/],
    ['the moment of its expiry', { expires: now }, 'refuse', /expired/],
    ['a creation in the future', { created: now + 601 }, 'refuse', /601 s in the future/],
    ['a version too far ahead', { version: now + maxVersionStep + 1 }, 'refuse', /above/],
    ['the last version of all', { version: 2 ** 53 - 1 }, 'refuse', /above/],
    ['a withdrawal', { kind: 'withdraw', length: 0 }, 'accept', /newer/],
    ['an update for other nodes', { isForUs: false }, 'accept', /not a target/],
    ['large content for others', { isForUs: false, length: 2_000_000 }, 'accept', /not a target/],
    [
      'a key set on a node that follows other channels',
      { kind: 'keyset', channel: 'keyset', version: 2, mark: 1, allowedChannels: ['lab'] },
      'accept',
      /newer/,
    ],
    [
      'a key set beside 64 channels',
      { kind: 'keyset', channel: 'keyset', version: 2, mark: 1, knownChannels: manyChannels },
      'accept',
      /newer/,
    ],
    ['a clock before this software', { buildTime: now + 1 }, 'wait', /before this software/],
    ['an expiry judged by a wrong clock', { buildTime: now + 1, expires: 1 }, 'wait', /clock/],
    ['an old version under a wrong clock', { buildTime: now + 1, mark: now }, 'refuse', /older/],
  ])('decides on %s', (_, change, kind, reason) => {
    const decision = decide({ ...newest, ...change });
    expect(decision).toMatchObject({ kind, reason: expect.stringMatching(reason) as string });
  });

  it('gives a hint with every decision that does not accept', () => {
    const decision = decide({ ...newest, mark: now });
    expect(decision).toMatchObject({ hint: expect.stringMatching(/submit/) as string });
  });
});
