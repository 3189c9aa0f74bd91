import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { type UpdateId, updateKey } from '../../../lib/announcement/update.ts';
import type { Config } from '../../../lib/config.ts';
import { parsePage, summaryPage, type SummaryPage } from '../../../lib/query/summary-page.ts';
import { listAccepted } from '../../../lib/state/facts.ts';
import { outcomesDir, updatesDir } from '../../../lib/state/layout.ts';
import { newProgress, type Progress } from '../../../lib/state/progress.ts';
import { replaceRecord } from '../../../lib/system/record.ts';
import { makeAnnouncement, signAnnouncement } from '../../support/fleet/announce.ts';
import { type LoneNode, makeLoneNode } from '../../support/fleet/lone-node.ts';

const now = Math.floor(Date.now() / 1000);

function page({ config }: { config: Config }, after = '', at = now): SummaryPage {
  const text = summaryPage(config, after, at);
  expect(text).toMatch(/^[\x20-\x7e]+$/);
  expect(text.length).toBeLessThanOrEqual(900);
  const parsed = parsePage(text);
  if (parsed === undefined) throw new Error(text);
  return parsed;
}

/** Records a state, as the side that `directory` belongs to would. */
function record(directory: string, id: UpdateId, change: Partial<Progress>): void {
  mkdirSync(directory, { recursive: true });
  const at = { [change.state ?? 'ACCEPTED']: new Date((now - 60) * 1000).toISOString() };
  const fresh = newProgress({ infoHash: 'a'.repeat(40), sha256: 'b'.repeat(64), noop: false });
  replaceRecord(join(directory, updateKey(id)), { ...fresh, at, ...change });
}

function plant(node: LoneNode, change: Parameters<typeof makeAnnouncement>[0]): UpdateId {
  const announcement = makeAnnouncement(change);
  node.plant(signAnnouncement(announcement, node.keys));
  const { channel, version } = announcement;
  return { channel, version };
}

const run = { log: '/x', exitCode: 2, changed: 1, failed: 0 };

describe('the summary of a node', () => {
  it('has no channels on a new node', () => {
    expect(page(makeLoneNode())).toEqual({
      software: 'source',
      epoch: 1,
      newestCreated: null,
      isLimited: false,
      fault: '',
      clock: now,
      channels: [],
      hasMore: false,
    });
  });

  it('has the newest of each channel, and the newest that is meant for this node', () => {
    const node = makeLoneNode();
    const { stateDir, applyDir } = node.config;
    const old = plant(node, { version: now - 9, created: now - 9 });
    const applied = plant(node, { version: now - 5, created: now - 5 });
    plant(node, { version: now - 4, noop: true });
    plant(node, { version: now - 3, target: 'node=n2', expires: now + 5 });
    plant(node, { version: now - 2, noop: true, created: now - 2 });
    const on = plant(node, { version: now - 7, channel: 'web', created: now - 7 });
    record(updatesDir(stateDir), applied, { state: 'COMPLETE', reason: 'downloaded' });
    record(outcomesDir(applyDir), old, { state: 'APPLIED', run });
    record(outcomesDir(applyDir), applied, { state: 'APPLIED', reason: 'applied', run });
    record(updatesDir(stateDir), on, { state: 'STALLED', reason: 'nothing came for a minute' });
    const { channels, newestCreated } = page(node);
    expect(newestCreated).toBe(now - 2);
    expect(channels).toEqual([
      {
        channel: 'default',
        newest: now - 3,
        isNewestExpired: false,
        equivocation: 'none',
        lastApplied: now - 5,
        current: {
          version: now - 5,
          state: 'APPLIED',
          since: now - 60,
          reason: '',
          run: { exitCode: 2, changed: 1, failed: 0 },
        },
      },
      {
        channel: 'web',
        newest: now - 7,
        isNewestExpired: false,
        equivocation: 'none',
        lastApplied: 0,
        current: {
          version: now - 7,
          state: 'STALLED',
          since: now - 60,
          reason: 'nothing came for a minute',
          run: null,
        },
      },
    ]);
    expect(page(node, '', now + 10).channels[0]?.isNewestExpired).toBe(true);
  });

  it('names the version applied before, also under a withdrawal', () => {
    const node = makeLoneNode();
    const first = plant(node, { version: now - 5 });
    const stop = plant(node, { version: now - 4 });
    const directory = outcomesDir(node.config.applyDir);
    record(directory, first, { state: 'APPLIED' });
    record(directory, stop, { state: 'APPLIED', sha256: '0'.repeat(64), reason: 'withdrawn' });
    expect(page(node).channels[0]).toMatchObject({
      lastApplied: now - 5,
      current: { version: now - 4, state: 'APPLIED', reason: 'withdrawn' },
    });
  });

  it('lists the followed channels, and no other, on a node that follows few', () => {
    const node = makeLoneNode({ channels: ['lab', 'web'] });
    plant(node, { version: now, channel: 'web' });
    plant(node, { version: now, channel: 'other' });
    const { channels, isLimited } = page(node);
    expect(isLimited).toBe(true);
    expect(channels.map(({ channel, newest }) => [channel, newest])).toEqual([
      ['lab', 0],
      ['web', now],
    ]);
  });
});

describe('the summary of a damaged node', () => {
  it.each<[string, (node: LoneNode, id: UpdateId) => void, object]>([
    [
      'both generations of a record',
      ({ config }, id) => {
        const file = join(outcomesDir(config.applyDir), updateKey(id));
        for (const each of [file, `${file}.previous`]) writeFileSync(each, 'rubbish');
      },
      { state: 'DAMAGED', reason: expect.stringMatching(/^the record outcomes\/bad@/) as string },
    ],
    [
      'an announcement',
      ({ config }, id) => {
        writeFileSync(join(config.stateDir, 'announcements', updateKey(id)), 'rubbish');
      },
      { state: 'DAMAGED', reason: 'its announcement is damaged' },
    ],
  ])('shows damage of %s, and hides no other channel', (_, damage, current) => {
    const node = makeLoneNode();
    const good = plant(node, { version: now, channel: 'good' });
    const bad = plant(node, { version: now, channel: 'bad' });
    record(outcomesDir(node.config.applyDir), good, { state: 'APPLIED', run });
    record(outcomesDir(node.config.applyDir), bad, { state: 'FAILED', run });
    damage(node, bad);
    expect(page(node).channels).toMatchObject([
      { channel: 'bad', newest: now, current },
      { channel: 'good', current: { state: 'APPLIED' } },
    ]);
  });

  it('shows damage of the key set, and hides no channel', () => {
    const node = makeLoneNode();
    plant(node, { version: now });
    rmSync(node.config.keySetFile);
    expect(page(node)).toMatchObject({
      epoch: null,
      fault: expect.stringMatching(/^the key set /) as string,
      channels: [{ channel: 'default' }],
    });
  });

  it('shows damage of the directory of the announcements', () => {
    const node = makeLoneNode();
    writeFileSync(join(node.config.stateDir, 'announcements'), '');
    expect(page(node)).toMatchObject({
      epoch: 1,
      fault: expect.stringMatching(/not a directory/) as string,
      channels: [],
    });
  });
});

describe('the pages of a node', () => {
  it('have room for 64 channels with long names and long, hostile reasons', () => {
    const node = makeLoneNode();
    const { config } = node;
    for (let i = 0; i < 64; i += 1) {
      const channel = `${String(i).padStart(2, '0')}-${'x'.repeat(21)}`;
      const id = plant(node, { version: now, channel });
      const reason = '"\\\n\u00e9'.repeat(50);
      record(outcomesDir(config.applyDir), id, { state: 'FAILED', reason, run });
    }
    const seen: string[] = [];
    let pages = 0;
    for (let after = '', more = true; more; pages += 1) {
      const { channels, hasMore } = page(node, after);
      expect(channels.length).toBeGreaterThan(0);
      for (const { channel, current } of channels) {
        expect(current).toMatchObject({ state: 'FAILED', since: now - 60 });
        seen.push(channel);
      }
      after = channels.at(-1)?.channel ?? '';
      more = hasMore;
    }
    expect(seen).toEqual([...new Set(listAccepted(config.stateDir).map(({ channel }) => channel))]);
    expect(pages).toBeLessThanOrEqual(32);
    expect(page(node, seen.at(-1)).channels).toEqual([]);
  });
});

describe('a response', () => {
  const facts = {
    ...{ format: 1, software: '1', epoch: 1, created: 5, limited: false, fault: '' },
    ...{ more: false, channels: [] as unknown },
  };
  const row = ['default', 7, '', 0, 7, 'APPLIED', 5, '', [2, 1, 0]];
  const withRow = (change: Record<number, unknown>): object => {
    const changed: unknown[] = [...row];
    for (const [index, value] of Object.entries(change)) changed[Number(index)] = value;
    return { ...facts, channels: [changed] };
  };

  it('that is well-formed is taken as it is', () => {
    expect(parsePage(JSON.stringify(withRow({})))?.channels).toHaveLength(1);
    expect(parsePage(JSON.stringify(withRow({ 2: 'XE' })))?.channels[0]).toMatchObject({
      isNewestExpired: true,
      equivocation: 'seen',
    });
  });

  it.each<[string, unknown]>([
    ['null', null],
    ['a list', []],
    ['another format', { ...facts, format: 2 }],
    ['a text for a number', { ...facts, epoch: '1' }],
    ['a fraction', { ...facts, created: 1.5 }],
    ['a negative time', { ...facts, created: -1 }],
    ['no list of channels', { ...facts, channels: {} }],
    ['a malformed channel', withRow({ 0: '../x' })],
    ['a name with control characters', withRow({ 0: 'a\u001b[2J' })],
    ['a version above 2^53', withRow({ 1: 2 ** 60 })],
    ['an unknown state', withRow({ 5: 'GREAT' })],
    ['a state named like a property of Object', withRow({ 5: 'constructor' })],
    ['a reason that is no text', withRow({ 7: {} })],
    ['a run of another shape', withRow({ 8: [2, 1] })],
    ['a run with text', withRow({ 8: [2, 1, 'x'] })],
  ])('with %s is malformed', (_, value) => {
    expect(parsePage(JSON.stringify(value))).toBeUndefined();
  });

  it.each(['', 'rubbish', '{'])('that is %j is malformed', (text) => {
    expect(parsePage(text)).toBeUndefined();
  });

  it('cannot send control characters to a terminal, nor fill it', () => {
    const text = JSON.stringify({ ...withRow({ 7: '\u001b[2J'.repeat(100) }), software: '\u0007' });
    const parsed = parsePage(text);
    expect(parsed?.software).toBe('?');
    expect(parsed?.channels[0]?.current?.reason).toMatch(/^(\?\[2J){20}$/);
  });
});
