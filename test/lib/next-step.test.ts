import { describe, expect, it } from 'vitest';
import { decideStep } from '../../lib/next-step.ts';
import { newProgress, type Progress } from '../../lib/progress.ts';
import type { State } from '../../lib/states.ts';
import type { Torrent } from '../../lib/transmission.ts';
import { contentName, type Update } from '../../lib/update.ts';

const now = 1_900_000_000;
const iso = (seconds: number): string => new Date(seconds * 1000).toISOString();

const update: Update = {
  payload: '',
  channel: 'default',
  version: now,
  kind: 'manifest',
  name: 'site.pp',
  length: 1000,
  infoHash: 'a'.repeat(40),
  sha256: 'b'.repeat(64),
  pieceLength: 16_384,
  pieces: new Uint8Array(20),
  notBefore: 0,
  expires: now + 1000,
  rerun: false,
  noop: false,
  target: '',
  metainfo: null,
};

const downloading: Torrent = {
  infoHash: update.infoHash,
  name: 'x',
  status: 'downloading',
  percentDone: 0.5,
  hasMetadata: true,
  totalSize: 1000,
  pieceLength: 16_384,
  downloadDir: '/d',
  files: [{ name: contentName(update), length: 1000 }],
  error: '',
  peersConnected: 2,
  rateDownload: 10,
  activeAt: 0,
  uploadedEver: 0,
  trackers: [],
};
const seeding: Torrent = { ...downloading, status: 'seeding', percentDone: 1, rateDownload: 0 };
const lonely: Torrent = { ...downloading, peersConnected: 0, rateDownload: 0 };

const progress = (state: State, more: Partial<Progress> = {}): Progress => ({
  ...newProgress(update),
  state,
  at: { QUEUED: iso(now - 10) },
  ...more,
});

type Input = Parameters<typeof decideStep>[0];
const input = (change: Partial<Input>): Input => ({
  update,
  torrent: undefined,
  progress: undefined,
  outcome: undefined,
  isMarked: false,
  now,
  ...change,
});

describe('decideStep', () => {
  it.each<[string, Partial<Input>, object]>([
    ['adds what Transmission does not have', {}, { kind: 'add', record: true }],
    [
      'adds again, without a step back, what was applied and has vanished',
      { outcome: progress('APPLIED') },
      { kind: 'add', record: false },
    ],
    ['lets a download go on', { torrent: downloading }, { kind: 'download', feed: false }],
    ['feeds a download without peers', { torrent: lonely }, { kind: 'download', feed: true }],
    [
      'starts a stopped download',
      { torrent: { ...lonely, status: 'stopped' } },
      { kind: 'download', resume: true },
    ],
    [
      'says that a download is stalled after a minute without peers',
      { torrent: lonely, progress: progress('QUEUED', { at: { QUEUED: iso(now - 61) } }) },
      { kind: 'download', state: 'STALLED', feed: true },
    ],
    [
      'says so also when it has peers, who lack it too',
      {
        torrent: { ...downloading, rateDownload: 0 },
        progress: progress('QUEUED', { at: { QUEUED: iso(now - 61) } }),
      },
      { kind: 'download', state: 'STALLED', feed: false },
    ],
    [
      'does not say so when something came within the minute',
      {
        torrent: { ...downloading, rateDownload: 0, activeAt: now - 59 },
        progress: progress('QUEUED', { at: { QUEUED: iso(now - 99) } }),
      },
      { kind: 'download', state: 'QUEUED' },
    ],
    [
      'says that a stalled download goes on',
      { torrent: downloading, progress: progress('STALLED', { at: { QUEUED: iso(now - 99) } }) },
      { kind: 'download', state: 'QUEUED' },
    ],
    ['tells the apply side once complete', { torrent: seeding }, { kind: 'complete', mark: true }],
    [
      'does not tell it twice',
      { torrent: seeding, isMarked: true },
      { kind: 'complete', mark: false },
    ],
    [
      'does not tell it of what it has staged',
      { torrent: seeding, outcome: progress('STAGED') },
      { kind: 'complete', mark: false },
    ],
    ['waits for a check', { torrent: { ...seeding, status: 'checking' } }, { kind: 'nothing' }],
    [
      'does not take a magnet without metadata for complete',
      { torrent: { ...lonely, percentDone: 1, hasMetadata: false, totalSize: 0 } },
      { kind: 'download' },
    ],
    [
      'rejects metadata of another size than announced',
      { torrent: { ...downloading, totalSize: 2 ** 50 } },
      { kind: 'drop', state: 'REJECTED' },
    ],
    [
      'rejects metadata of another piece length',
      { torrent: { ...downloading, pieceLength: 32_768 } },
      { kind: 'drop', state: 'REJECTED' },
    ],
    [
      'rejects metadata of another file name',
      { torrent: { ...downloading, files: [{ name: 'x', length: 1000 }] } },
      { kind: 'drop', state: 'REJECTED' },
    ],
    [
      'rejects metadata of more than one file',
      { torrent: { ...seeding, files: [...downloading.files, { name: 'x/y', length: 0 }] } },
      { kind: 'drop', state: 'REJECTED' },
    ],
    [
      'tells the apply side of a withdrawal, which has nothing to download',
      { update: { ...update, kind: 'withdraw' } },
      { kind: 'tell', mark: true },
    ],
    [
      'does not tell it again of a withdrawal that it has seen',
      { update: { ...update, kind: 'withdraw' }, outcome: progress('APPLIED') },
      { kind: 'nothing' },
    ],
    [
      'drops what expired before it was applied',
      { update: { ...update, expires: now }, torrent: downloading },
      { kind: 'drop', state: 'EXPIRED' },
    ],
    [
      'keeps seeding what was applied in time',
      { update: { ...update, expires: now }, torrent: seeding, outcome: progress('APPLIED') },
      { kind: 'complete', mark: false },
    ],
    [
      'has a torrent checked whose content was found to be wrong',
      { torrent: seeding, outcome: progress('QUEUED', { badContent: 1 }) },
      { kind: 'verify', badContent: 1 },
    ],
    [
      'tells the apply side again after that check',
      {
        torrent: seeding,
        outcome: progress('QUEUED', { badContent: 1 }),
        progress: progress('QUEUED', { badContent: 1 }),
      },
      { kind: 'complete', mark: true },
    ],
    [
      'drops what the apply side rejected',
      { torrent: seeding, outcome: progress('REJECTED', { badContent: 3 }) },
      { kind: 'drop', state: 'REJECTED' },
    ],
    ['leaves the rejected alone', { progress: progress('REJECTED') }, { kind: 'nothing' }],
    ['leaves the expired alone', { progress: progress('EXPIRED') }, { kind: 'nothing' }],
  ])('%s', (_, change, step) => {
    expect(decideStep(input(change))).toMatchObject(step);
  });
});
