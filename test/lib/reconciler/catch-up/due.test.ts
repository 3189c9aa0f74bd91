import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import {
  decideCatchUp,
  isJoinOurs,
  readCatchUp,
  stillRefused,
  writeCatchUp,
  type CatchUpRecord,
} from '../../../../lib/reconciler/catch-up/due.ts';
import { temporaryDirectory } from '../../../support/run/temporary.ts';

const now = 1_800_000_000_000;
const last = (change: Partial<CatchUpRecord> & { ageMs?: number } = {}): CatchUpRecord => {
  const { ageMs = 30_000, ...more } = change;
  const record = { epoch: 1, members: 10, left: 'nothing', refused: [] } as const;
  return { startedAt: now - ageMs, ...record, refused: [], ...more };
};

describe('decideCatchUp', () => {
  const none = null;
  const joined = now - 100;
  it.each<[string, CatchUpRecord | undefined, number | null, number, number | null]>([
    ['there was none', undefined, none, 1, 0],
    ['the last one is recent', last(), none, 1, null],
    ['the last one is of a minute ago', last({ ageMs: 60_000 }), none, 1, 250],
    ['a timer is a little early', last({ ageMs: 55_000 }), none, 1, 250],
    ['a timer is much too early', last({ ageMs: 50_000 }), none, 1, null],
    ['the fleet has 1,000 members', last({ ageMs: 400_000, members: 1000 }), none, 1, null],
    ['it has, ten minutes later', last({ ageMs: 600_000, members: 1000 }), none, 1, 2500],
    ['a member has joined since', last(), joined, 1, 250],
    ['a member has joined before', last(), now - 31_000, 1, null],
    ['a member joins soon after the last one', last({ ageMs: 4_000 }), joined, 1, 6_000],
    ['no other member was there then', last({ ageMs: 4_000, members: 1 }), joined, 1, 25],
    ['another process waits to begin', last({ ageMs: -6_000 }), joined, 1, null],
    ['the join lies in the future', last(), now + 5_000, 1, null],
    ['the last one lies in the future', last({ ageMs: -60_000 }), none, 1, 0],
    ['it waited for keys, which have come', last({ left: 'keys', ageMs: 5 }), none, 2, 0],
    ['it waited for keys, which have not', last({ left: 'keys' }), none, 1, null],
    ['keys have come, for which nothing waited', last(), none, 2, null],
    ['it was cut short', last({ left: 'time' }), none, 1, 250],
    ['it was cut short just now', last({ left: 'time', ageMs: 9_000 }), none, 1, null],
  ])(
    'tells whether a catch-up is due, and the delay, when %s',
    (_, record, joinedAt, epoch, delayMs) => {
      const input = { last: record, joinedAt, epoch, nowMs: now, intervalSeconds: 60, random: 0.5 };
      expect(decideCatchUp(input)).toBe(delayMs);
    },
  );
});

describe('isJoinOurs', () => {
  it.each([
    [1, 0, true],
    [1, 20, true],
    [1, 21, false],
    [500, 1000, false],
    [501, 1000, true],
  ])('takes a join of %i among %i members for ours: %s', (joined, members, expected) => {
    expect(isJoinOurs(joined, members)).toBe(expected);
  });
});

describe('the record of the last catch-up', () => {
  it('is read back', () => {
    const stateDir = temporaryDirectory();
    expect(readCatchUp(stateDir)).toBeUndefined();
    const record = last({ refused: [{ offerKey: 'a@1 00000000', at: now }] });
    writeCatchUp(stateDir, record);
    expect(readCatchUp(stateDir)).toEqual(record);
  });

  it('counts as absent when it is damaged or no file, and is written again', () => {
    const stateDir = temporaryDirectory();
    const file = join(stateDir, 'catch-up');
    writeFileSync(file, 'x');
    expect(readCatchUp(stateDir)).toBeUndefined();
    writeCatchUp(stateDir, last());
    expect(readCatchUp(stateDir)).toEqual(last());
    const other = temporaryDirectory();
    mkdirSync(join(other, 'catch-up'));
    expect(readCatchUp(other)).toBeUndefined();
    writeCatchUp(other, last());
    expect(readCatchUp(other)).toEqual(last());
  });

  it('forgets refusals under another epoch, or of long ago, and keeps a bounded number', () => {
    const refused = Array.from({ length: 300 }, (_, index) => ({
      offerKey: `a@${index} x`,
      at: now,
    }));
    expect(stillRefused(last({ refused }), 1, now)).toHaveLength(256);
    expect(stillRefused(last({ refused }), 1, now).at(-1)?.offerKey).toBe('a@299 x');
    expect(stillRefused(last({ refused }), 2, now)).toEqual([]);
    expect(stillRefused(last({ refused }), 1, now + 3_600_000)).toEqual([]);
    expect(stillRefused(last({ refused }), 1, now - 3_600_000)).toEqual([]);
    expect(stillRefused(undefined, 1, now)).toEqual([]);
  });
});
