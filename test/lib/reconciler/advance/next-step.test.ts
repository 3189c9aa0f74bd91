import { describe, expect, it } from 'vitest';
import { contentName, type Update } from '../../../../lib/announcement/update.ts';
import type { Torrent } from '../../../../lib/daemons/transmission/torrent.ts';
import { decideStep, type StepInput } from '../../../../lib/reconciler/advance/next-step.ts';
import { newProgress, type Progress } from '../../../../lib/state/progress.ts';
import type { State } from '../../../../lib/state/states.ts';

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
  addedAt: 0,
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

const input = (change: Partial<StepInput>): StepInput => ({
  update,
  torrent: undefined,
  data: 'whole',
  place: 'download',
  daemonSeconds: 3600,
  progress: undefined,
  outcome: undefined,
  isMarked: false,
  nowSeconds: now,
  ...change,
});

type Row = [name: string, change: Partial<StepInput>, step: object];

describe('decideStep', () => {
  it.each<Row>([
    ['adds what Transmission does not have', {}, { kind: 'add', copy: true }],
    [
      'adds again what was applied and has vanished, and needs no copy of it',
      { progress: progress('COMPLETE'), outcome: progress('APPLIED') },
      { kind: 'add', copy: false },
    ],
    [
      'waits for what a daemon that has just started may not have loaded yet',
      { progress: progress('QUEUED'), daemonSeconds: 7 },
      { kind: 'wait', seconds: 3 },
    ],
    [
      'gives a new update to a daemon that has just started',
      { progress: progress('ACCEPTED'), daemonSeconds: 0 },
      { kind: 'add' },
    ],
    [
      'gives anew what came back in another directory',
      { torrent: lonely, place: 'other', progress: progress('QUEUED') },
      { kind: 're-add' },
    ],
    [
      'leaves alone what is applied and seeded from another directory',
      { torrent: seeding, place: 'other', outcome: progress('APPLIED') },
      { kind: 'complete' },
    ],
    [
      'gives anew what is damaged where the daemon may only read',
      { torrent: lonely, place: 'publish', progress: progress('QUEUED') },
      { kind: 're-add', where: 'download' },
    ],
    [
      'gives anew what is said to be complete and is not on disk',
      { torrent: seeding, data: 'missing', outcome: progress('APPLIED') },
      { kind: 're-add', copy: false },
    ],
    [
      'gives anew, its data elsewhere, what came back in the wrong one of two directories',
      { torrent: lonely, data: 'elsewhere', progress: progress('COMPLETE') },
      { kind: 're-add', where: 'where it is' },
    ],
    [
      'does so once only, as what is there may be damaged',
      { torrent: { ...lonely, percentDone: 0 }, data: 'elsewhere', progress: progress('QUEUED') },
      { kind: 'download' },
    ],
    [
      'does not miss data that has yet to come',
      { torrent: { ...lonely, percentDone: 0 }, data: 'missing' },
      { kind: 'download' },
    ],
    [
      'has checked what is shorter than it should be',
      { torrent: seeding, data: 'cut', progress: progress('COMPLETE') },
      { kind: 'verify' },
    ],
    [
      'has checked what was complete and is not any more',
      { torrent: lonely, progress: progress('COMPLETE') },
      { kind: 'verify', resume: false },
    ],
    [
      'has it started again, too, when it came back stopped',
      { torrent: { ...lonely, status: 'stopped' }, progress: progress('COMPLETE') },
      { kind: 'verify', resume: true },
    ],
    [
      'has checked what was under way when the daemon was started again',
      { torrent: lonely, progress: progress('QUEUED'), daemonSeconds: 5 },
      { kind: 'verify' },
    ],
    [
      'has it checked once only',
      { torrent: lonely, progress: progress('QUEUED'), daemonSeconds: 15 },
      { kind: 'download' },
    ],
    [
      'has nothing checked that has no metadata yet',
      {
        torrent: { ...lonely, hasMetadata: false },
        progress: progress('QUEUED'),
        daemonSeconds: 5,
      },
      { kind: 'download' },
    ],
    [
      'starts what is complete and was stopped',
      { torrent: { ...seeding, status: 'stopped' }, outcome: progress('APPLIED') },
      { kind: 'complete', resume: true },
    ],
    [
      'drops what expired while it was downloaded again',
      { update: { ...update, expires: now }, outcome: progress('QUEUED'), torrent: lonely },
      { kind: 'drop', state: 'EXPIRED' },
    ],
    [
      'begins anew what had expired by a wrong clock',
      { progress: progress('EXPIRED') },
      { kind: 'add' },
    ],
    [
      'begins anew, and tells, what was superseded and counts again',
      { progress: progress('SUPERSEDED'), outcome: progress('SUPERSEDED'), torrent: seeding },
      { kind: 'complete', mark: true },
    ],
    ['lets a download go on', { torrent: downloading }, { kind: 'download', announcePeers: false }],
    [
      'feeds a download without peers',
      { torrent: lonely },
      { kind: 'download', announcePeers: true },
    ],
    [
      'starts a stopped download',
      { torrent: { ...lonely, status: 'stopped' } },
      { kind: 'download', resume: true },
    ],
    [
      'says that a download is stalled after a minute without peers',
      { torrent: lonely, progress: progress('QUEUED', { at: { QUEUED: iso(now - 61) } }) },
      { kind: 'download', state: 'STALLED', announcePeers: true },
    ],
    [
      'says so also when it has peers, who lack it too',
      {
        torrent: { ...downloading, rateDownload: 0 },
        progress: progress('QUEUED', { at: { QUEUED: iso(now - 61) } }),
      },
      { kind: 'download', state: 'STALLED', announcePeers: false },
    ],
    [
      'does not say so when something came within the minute',
      {
        torrent: { ...downloading, rateDownload: 0, activeAt: now - 59 },
        progress: progress('QUEUED', { at: { QUEUED: iso(now - 99) } }),
      },
      { kind: 'download', state: 'QUEUED' },
    ],
    ...(
      [
        ['adds again what nobody has brought a byte of for a minute', 61, 61, 're-add'],
        ['waits twice as long after that', 122, 61, 'download'],
        ['and then adds it again', 123, 62, 're-add'],
        ['at least every 15 min', 9000, 901, 're-add'],
      ] as const
    ).map(([name, queued, added, kind]): Row => [
      name,
      {
        daemonSeconds: 99_999,
        torrent: { ...lonely, percentDone: 0, addedAt: now - added },
        progress: progress('STALLED', { at: { QUEUED: iso(now - queued) } }),
      },
      { kind, state: 'STALLED' },
    ]),
    [
      'leaves alone what has begun, or has peers',
      {
        torrent: { ...lonely, percentDone: 0, peersConnected: 1, addedAt: now - 61 },
        progress: progress('STALLED', { at: { QUEUED: iso(now - 61) } }),
      },
      { kind: 'download', state: 'STALLED' },
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
    [
      'calls the others after the daemon was started again: they may have given it up',
      {
        torrent: seeding,
        daemonSeconds: 5,
        progress: progress('COMPLETE', { at: { COMPLETE: iso(now - 99) } }),
      },
      { kind: 'complete', announcePeers: true },
    ],
    [
      'calls nobody where the daemon was there all the time',
      {
        torrent: seeding,
        daemonSeconds: 89,
        progress: progress('COMPLETE', { at: { COMPLETE: iso(now - 88) } }),
      },
      { kind: 'complete', announcePeers: false },
    ],
    [
      'calls nobody long after the start',
      {
        torrent: seeding,
        daemonSeconds: 90,
        progress: progress('COMPLETE', { at: { COMPLETE: iso(now - 999) } }),
      },
      { kind: 'complete', announcePeers: false },
    ],
    [
      'calls the others for what came back stopped',
      { torrent: { ...seeding, status: 'stopped' }, progress: progress('COMPLETE') },
      { kind: 'complete', resume: true, announcePeers: true },
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
      { kind: 'mark-complete', mark: true },
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
    [
      'takes out what was rejected, when that was interrupted',
      { progress: progress('REJECTED'), torrent: seeding },
      { kind: 'drop', state: 'REJECTED' },
    ],
    [
      'takes out what has expired, when that was interrupted',
      { progress: progress('EXPIRED'), update: { ...update, expires: now }, torrent: seeding },
      { kind: 'drop', state: 'EXPIRED' },
    ],
  ])('%s', (_, change, step) => {
    expect(decideStep(input(change))).toMatchObject(step);
  });
});
