import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { newProgress, type Progress } from '../../../lib/state/progress.ts';
import {
  retainedAnnouncements,
  retainedContents,
  retainedOutcomes,
} from '../../../lib/state/retention.ts';
import type { State } from '../../../lib/state/states.ts';
import { updateKey, type UpdateId } from '../../../lib/announcement/update.ts';

const id = (version: number, channel = 'c'): UpdateId => ({ channel, version });
const keys = (...versions: number[]): string[] => versions.map((version) => updateKey(id(version)));

describe('retainedAnnouncements', () => {
  const held = (version: number, target: string | undefined, noop = false, channel = 'c') => ({
    id: id(version, channel),
    target,
    noop,
  });

  it('keeps the newest of each channel, target and noop', () => {
    const stay = retainedAnnouncements([
      ...[held(1, ''), held(2, ''), held(3, 'role=web'), held(4, 'role=web'), held(5, '', true)],
      ...[held(6, '', true), held(1, '', false, 'd')],
    ]);
    expect([...stay].sort()).toEqual([...keys(2, 4, 6), updateKey(id(1, 'd'))].sort());
  });

  it('keeps every key set, and every damaged announcement', () => {
    const chain = [held(1, '', false, 'keyset'), held(2, '', false, 'keyset')];
    expect(retainedAnnouncements([...chain, held(1, undefined), held(2, '')]).size).toBe(4);
  });

  it('lets no high-water mark fall when the tags of the node change', () => {
    const announcement = fc.record({
      version: fc.integer({ min: 1, max: 40 }),
      target: fc.constantFrom('', 'a', 'b', 'c'),
      noop: fc.boolean(),
    });
    const all = fc.uniqueArray(announcement, { selector: ({ version }) => version });
    const targets = fc.subarray(['', 'a', 'b', 'c']);
    fc.assert(
      fc.property(all, targets, fc.boolean(), (list, matching, noop) => {
        const stay = retainedAnnouncements(
          list.map((each) => held(each.version, each.target, each.noop)),
        );
        const mark = (some: typeof list): number =>
          Math.max(
            0,
            ...some
              .filter((each) => matching.includes(each.target) && (noop || !each.noop))
              .map(({ version }) => version),
          );
        const left = list.filter(({ version }) => stay.has(updateKey(id(version))));
        expect(mark(left)).toBe(mark(list));
      }),
    );
  });
});

describe('retainedContents', () => {
  const applied = (version: number, sha256: string, change: Partial<Progress> = {}) => ({
    id: id(version),
    outcome: {
      ...newProgress({ infoHash: 'i', sha256, noop: false }),
      state: 'APPLIED' as const,
      ...change,
    },
  });

  it('keeps the last contents that were applied, each counted once', () => {
    const list = [
      applied(1, 'a'),
      applied(2, 'b'),
      applied(3, 'c'),
      applied(4, 'b'),
      applied(5, 'd'),
    ];
    expect([...retainedContents(list, 3)]).toEqual(['d', 'b', 'c']);
    expect([...retainedContents(list, 1)]).toEqual(['d']);
    expect([...retainedContents(list, 0)]).toEqual([]);
  });

  it('counts neither noops, withdrawals and failures, nor what is damaged', () => {
    const list = [
      applied(1, 'a'),
      applied(2, 'b', { noop: true }),
      applied(3, '0'.repeat(64)),
      applied(4, 'c', { state: 'POISONED' }),
      { id: id(5), outcome: undefined },
    ];
    expect([...retainedContents(list, 3)]).toEqual(['a']);
  });

  it('keeps that of a bare torrent by its info hash', () => {
    expect([...retainedContents([applied(1, '', { sha256: null })], 3)]).toEqual(['i']);
  });
});

describe('retainedOutcomes', () => {
  const outcome = (state: State, noop = false, sha256 = 'ab'.repeat(32)): Progress => ({
    ...newProgress({ infoHash: '', sha256, noop }),
    state,
  });
  const range = (from: number, to: number): number[] =>
    Array.from({ length: to - from + 1 }, (_, index) => from + index);
  const stay = (outcomes: Map<number, Progress | undefined>): string[] => {
    const ids = [...outcomes.keys()].map((version) => id(version));
    return [...retainedOutcomes(ids, ({ version }) => outcomes.get(version))].sort();
  };

  it('keeps the newest 16', () => {
    const all = new Map(range(1, 20).map((version) => [version, outcome('APPLIED')]));
    expect(stay(all)).toEqual(keys(...range(5, 20)));
  });

  it('keeps the high-water mark, and the content applied last, behind any number of noops', () => {
    const all = new Map<number, Progress | undefined>([
      [1, outcome('APPLIED')],
      [2, outcome('APPLIED')],
      [3, outcome('APPLIED', false, '0'.repeat(64))], // a withdrawal has no content
      [4, outcome('SUPERSEDED')],
    ]);
    for (const version of range(5, 30)) all.set(version, outcome('APPLIED', true));
    expect(stay(all)).toEqual(keys(2, 4, ...range(15, 30)));
  });

  it('keeps a damaged outcome, or the log of a lost one, which may have been the high-water mark', () => {
    const all = new Map<number, Progress | undefined>([
      [1, undefined],
      [2, outcome('APPLIED')],
      [3, undefined],
    ]);
    for (const version of range(4, 20)) all.set(version, outcome('APPLIED', true));
    expect(stay(all)).toEqual(keys(2, 3, ...range(5, 20)));
  });
});
