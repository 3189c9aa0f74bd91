import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { type UpdateId, updateKey } from '../../../lib/announcement/update.ts';
import type { Config } from '../../../lib/config.ts';
import type { AskDownloads } from '../../../lib/query/downloads.ts';
import { parsePage, summaryPage, type SummaryPage } from '../../../lib/query/summary-page.ts';
import { formatStatus, parseStatus, statusOf } from '../../../lib/query/update-status.ts';
import { listAccepted } from '../../../lib/state/facts.ts';
import { outcomesDir, updatesDir } from '../../../lib/state/layout.ts';
import { newProgress, type Progress } from '../../../lib/state/progress.ts';
import { replaceRecord } from '../../../lib/system/record.ts';
import { makeAnnouncement, signAnnouncement } from '../../support/fleet/announce.ts';
import { type LoneNode, makeLoneNode } from '../../support/fleet/lone-node.ts';

const now = Math.floor(Date.now() / 1000);

const none: AskDownloads = () => Promise.resolve(new Map());

async function page(
  { config }: { config: Config },
  after = '',
  at = now,
  askDownloads = none,
): Promise<SummaryPage> {
  const text = await summaryPage(config, after, at, askDownloads);
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

/** The fields of an announcement that stops a channel. */
const withdrawal = {
  ...{ kind: 'withdraw' as const, infoHash: '0'.repeat(40), sha256: '0'.repeat(64) },
  ...{ length: 0, pieceLength: 0, pieces: new Uint8Array() },
};

const run = { log: '/x', exitCode: 2, changed: 1, failed: 0 };

describe('the summary of a node', () => {
  it('has no channels on a new node', async () => {
    expect(await page(makeLoneNode())).toEqual({
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

  it('has the newest of each channel, and the newest that is meant for this node', async () => {
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
    const { channels, newestCreated } = await page(node);
    expect(newestCreated).toBe(now - 2);
    expect(channels).toEqual([
      {
        channel: 'default',
        newest: now - 3,
        isNewestExpired: false,
        isWithdrawal: false,
        equivocation: 'none',
        lastApplied: now - 5,
        current: {
          version: now - 5,
          state: 'APPLIED',
          since: now - 60,
          reason: '',
          run: { exitCode: 2, changed: 1, failed: 0 },
          download: null,
        },
      },
      {
        channel: 'web',
        newest: now - 7,
        isNewestExpired: false,
        isWithdrawal: false,
        equivocation: 'none',
        lastApplied: 0,
        current: {
          version: now - 7,
          state: 'STALLED',
          since: now - 60,
          reason: 'nothing came for a minute',
          run: null,
          download: null,
        },
      },
    ]);
    expect((await page(node, '', now + 10)).channels[0]?.isNewestExpired).toBe(true);
  });

  it.each<[string, Partial<Progress>[], string]>([
    ['an older one', [{ state: 'APPLIED' }, { state: 'WITHDRAWN' }], `runs ${now - 6}`],
    [
      'the one that was to be stopped',
      [{ state: 'APPLIED' }, { state: 'APPLIED' }],
      `runs ${now - 5}, applied before`,
    ],
    ['nothing', [{ state: 'WITHDRAWN' }, { state: 'WITHDRAWN' }], 'nothing was applied'],
    [
      'an older one, and parts of a newer one',
      [{ state: 'APPLIED' }, { state: 'WITHDRAWN', tries: 1 }],
      `runs ${now - 6}; ${now - 5} was tried, and failed`,
    ],
  ])('names what runs under a withdrawal: %s', async (_, outcomes, reason) => {
    const node = makeLoneNode();
    const directory = outcomesDir(node.config.applyDir);
    for (const [i, outcome] of outcomes.entries())
      record(directory, plant(node, { version: now - 6 + i }), outcome);
    const stop = plant(node, { ...withdrawal, version: now - 4 });
    record(directory, stop, { state: 'APPLIED', sha256: '0'.repeat(64), reason: 'withdrawn' });
    expect((await page(node)).channels[0]).toMatchObject({
      isWithdrawal: true,
      current: { version: now - 4, state: 'WITHDRAWN', reason },
    });
    const status = await statusOf(node.config, stop, none);
    // Version 0.2.0 would take any other state for a failure.
    expect(status).toEqual({ state: 'APPLIED', reason });
  });

  it('tells how far a download is, where Transmission says so', async () => {
    const node = makeLoneNode();
    const id = plant(node, { version: now });
    const infoHash = 'a'.repeat(40);
    record(updatesDir(node.config.stateDir), id, { state: 'QUEUED', infoHash, reason: 'x' });
    expect((await page(node)).channels[0]?.current?.download).toBeNull();
    const download = { percent: 45, bytesPerSecond: 119_500 };
    const ask: AskDownloads = (hashes) =>
      Promise.resolve(new Map(hashes.map((each) => [each, download])));
    expect((await page(node, '', now, ask)).channels[0]?.current).toMatchObject({
      state: 'QUEUED',
      download,
    });
    const status = await statusOf(node.config, id, ask);
    expect(parseStatus(formatStatus(status))).toEqual({ state: 'QUEUED', reason: 'x', download });
  });

  it('lists the followed channels, and no other, on a node that follows few', async () => {
    const node = makeLoneNode({ channels: ['lab', 'web'] });
    plant(node, { version: now, channel: 'web' });
    plant(node, { version: now, channel: 'other' });
    const { channels, isLimited } = await page(node);
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
  ])('shows damage of %s, and hides no other channel', async (_, damage, current) => {
    const node = makeLoneNode();
    const good = plant(node, { version: now, channel: 'good' });
    const bad = plant(node, { version: now, channel: 'bad' });
    record(outcomesDir(node.config.applyDir), good, { state: 'APPLIED', run });
    record(outcomesDir(node.config.applyDir), bad, { state: 'FAILED', run });
    damage(node, bad);
    expect((await page(node)).channels).toMatchObject([
      { channel: 'bad', newest: now, current },
      { channel: 'good', current: { state: 'APPLIED' } },
    ]);
  });

  it('shows damage of the key set, and hides no channel', async () => {
    const node = makeLoneNode();
    plant(node, { version: now });
    rmSync(node.config.keySetFile);
    expect(await page(node)).toMatchObject({
      epoch: null,
      fault: expect.stringMatching(/^the key set /) as string,
      channels: [{ channel: 'default' }],
    });
  });

  it('shows damage of the directory of the announcements', async () => {
    const node = makeLoneNode();
    writeFileSync(join(node.config.stateDir, 'announcements'), '');
    expect(await page(node)).toMatchObject({
      epoch: 1,
      fault: expect.stringMatching(/not a directory/) as string,
      channels: [],
    });
  });
});

describe('the pages of a node', () => {
  it('have room for 64 channels with long names and long, hostile reasons', async () => {
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
      const { channels, hasMore } = await page(node, after);
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
    expect((await page(node, seen.at(-1))).channels).toEqual([]);
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

  it('that is well-formed is taken as it is, also of version 0.2.0 and of a later one', () => {
    const current = (change: Record<number, unknown>) =>
      parsePage(JSON.stringify(withRow(change)))?.channels[0]?.current;
    expect(current({})).toMatchObject({ state: 'APPLIED', download: null });
    expect(current({ 9: [45, 1000] })?.download).toEqual({ percent: 45, bytesPerSecond: 1000 });
    for (const later of [[101, 5], [1], 'x', { percent: 1 }, [1, -1]])
      expect(current({ 9: later, 10: {} })).toMatchObject({ state: 'APPLIED', download: null });
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
