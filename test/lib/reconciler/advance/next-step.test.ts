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
  created: now,
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
  rateUpload: 0,
  activeAt: 0,
  addedAt: 0,
  uploadedEver: 0,
  trackers: [],
};
const seeding: Torrent = { ...downloading, status: 'seeding', percentDone: 1, rateDownload: 0 };
const lonely: Torrent = { ...downloading, peersConnected: 0, rateDownload: 0 };

const bare: Update = { ...update, sha256: null };
const downloadingBare: Torrent = {
  ...downloading,
  files: [{ name: contentName(bare), length: 1000 }],
};

const unanswered = {
  announce: `http://127.0.0.1:40000/announce/${'a'.repeat(32)}`,
  lastFailed: true,
};

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
  space: { free: 10_000, missing: 0 },
  place: 'download',
  daemonSeconds: 3600,
  isCopied: false,
  isUnannounced: false,
  progress: undefined,
  outcome: undefined,
  isMarked: false,
  nowSeconds: now,
  ...change,
});

type Row = [name: string, change: Partial<StepInput>, step: object];

describe('decideStep', () => {
  it.each<Row>([
    ['adds a torrent that Transmission does not have', {}, { kind: 'add', copy: true }],
    [
      'adds an applied torrent that has vanished, and needs no space for a copy',
      { progress: progress('COMPLETE'), outcome: progress('APPLIED') },
      { kind: 'add', copy: false },
    ],
    [
      'waits for a torrent that a daemon may not have loaded yet, since it has just started',
      { progress: progress('QUEUED'), daemonSeconds: 7 },
      { kind: 'wait', seconds: 3 },
    ],
    [
      'adds a new update to a daemon that has just started',
      { progress: progress('ACCEPTED'), daemonSeconds: 0 },
      { kind: 'add' },
    ],
    [
      're-adds a torrent that came back in another directory',
      { torrent: lonely, place: 'other', progress: progress('QUEUED') },
      { kind: 're-add' },
    ],
    [
      'leaves a complete torrent in the directory of somebody else, and copies it for the apply side',
      { torrent: seeding, place: 'other' },
      { kind: 'copy', from: '/d' },
    ],
    [
      'marks a torrent in the directory of somebody else as complete once it is copied',
      { torrent: seeding, place: 'other', isCopied: true },
      { kind: 'complete', mark: true },
    ],
    [
      'lets a bare torrent download where somebody has put it',
      { update: bare, torrent: downloadingBare, place: 'other' },
      { kind: 'download' },
    ],
    [
      'has a piece checked that the daemon could not read back',
      {
        torrent: {
          ...seeding,
          status: 'stopped',
          error: 'Please Verify Local Data! Piece #5 is corrupt.',
        },
      },
      {
        kind: 'verify',
        resume: true,
        reason: 'Transmission: Please Verify Local Data! Piece #5 is corrupt.',
      },
    ],
    [
      'starts a torrent that the daemon stopped by an error, and says which',
      {
        torrent: { ...downloading, status: 'stopped', error: 'No space left on device (/d/x)' },
        progress: progress('QUEUED'),
      },
      {
        kind: 'download',
        state: 'STALLED',
        resume: true,
        reason: 'Transmission: No space left on device (/d/x)',
      },
    ],
    [
      'does not fetch again what a full disk has cut, until there is space',
      {
        torrent: { ...seeding, status: 'stopped' },
        data: 'cut',
        space: { free: 999, missing: 1000 },
      },
      {
        kind: 'download',
        state: 'STALLED',
        resume: false,
        reason: '999 bytes free, 1000 are needed',
      },
    ],
    [
      'fetches it again then',
      {
        torrent: { ...seeding, status: 'stopped' },
        data: 'cut',
        space: { free: 1000, missing: 1000 },
      },
      { kind: 'verify', resume: true },
    ],
    [
      'does not start a torrent again that a full disk has stopped, until there is space',
      { torrent: { ...downloading, status: 'stopped' }, space: { free: 1, missing: 2 } },
      { kind: 'download', state: 'STALLED', resume: false },
    ],
    [
      'leaves an applied torrent alone that is seeded from another directory',
      { torrent: seeding, place: 'other', outcome: progress('APPLIED') },
      { kind: 'complete' },
    ],
    [
      're-adds a torrent that is damaged where the daemon may only read',
      { torrent: lonely, place: 'publish', progress: progress('QUEUED') },
      { kind: 're-add', where: 'download' },
    ],
    [
      're-adds a complete torrent whose data is not on disk',
      { torrent: seeding, data: 'missing', outcome: progress('APPLIED') },
      { kind: 're-add', copy: false },
    ],
    [
      're-adds a torrent that came back in the wrong one of two directories, its data in the other one',
      { torrent: lonely, data: 'elsewhere', progress: progress('COMPLETE') },
      { kind: 're-add', where: 'where it is' },
    ],
    [
      're-adds it once only, since the data there may be damaged',
      { torrent: { ...lonely, percentDone: 0 }, data: 'elsewhere', progress: progress('QUEUED') },
      { kind: 'download' },
    ],
    [
      'does not miss data that has yet to come',
      { torrent: { ...lonely, percentDone: 0 }, data: 'missing' },
      { kind: 'download' },
    ],
    [
      'has data checked that is shorter than announced',
      { torrent: seeding, data: 'cut', progress: progress('COMPLETE') },
      { kind: 'verify' },
    ],
    [
      'has a torrent checked that was complete and is not any more',
      { torrent: lonely, progress: progress('COMPLETE') },
      { kind: 'verify', resume: false },
    ],
    [
      'has that torrent started again, too, when it came back stopped',
      { torrent: { ...lonely, status: 'stopped' }, progress: progress('COMPLETE') },
      { kind: 'verify', resume: true },
    ],
    [
      'has a download checked that was under way when the daemon was started again',
      { torrent: lonely, progress: progress('QUEUED'), daemonSeconds: 5 },
      { kind: 'verify' },
    ],
    [
      'has it checked once only',
      { torrent: lonely, progress: progress('QUEUED'), daemonSeconds: 15 },
      { kind: 'download' },
    ],
    [
      'has no torrent checked that has no metadata yet',
      {
        torrent: { ...lonely, hasMetadata: false },
        progress: progress('QUEUED'),
        daemonSeconds: 5,
      },
      { kind: 'download' },
    ],
    [
      'starts a complete torrent that was stopped',
      { torrent: { ...seeding, status: 'stopped' }, outcome: progress('APPLIED') },
      { kind: 'complete', resume: true },
    ],
    [
      'drops an update that expired while it was downloaded again',
      { update: { ...update, expires: now }, outcome: progress('QUEUED'), torrent: lonely },
      { kind: 'drop', state: 'EXPIRED' },
    ],
    [
      'begins an update anew that had expired by a wrong clock',
      { progress: progress('EXPIRED') },
      { kind: 'add' },
    ],
    [
      'marks an update as complete that was superseded and counts again',
      { progress: progress('SUPERSEDED'), outcome: progress('SUPERSEDED'), torrent: seeding },
      { kind: 'complete', mark: true },
    ],
    ['lets a download go on', { torrent: downloading }, { kind: 'download', announcePeers: false }],
    [
      'announces peers to a download without any',
      { torrent: lonely },
      { kind: 'download', announcePeers: true },
    ],
    [
      'looks after a download without metadata, also when it has peers, which may have none either',
      { torrent: { ...downloading, hasMetadata: false } },
      { kind: 'download', announcePeers: true },
    ],
    [
      're-adds a download without peers whose announce URL cannot be served',
      { torrent: lonely, isUnannounced: true },
      { kind: 're-add', state: 'QUEUED' },
    ],
    [
      'does not re-add one that has peers',
      { torrent: downloading, isUnannounced: true },
      { kind: 'download' },
    ],
    [
      'starts a stopped download',
      { torrent: { ...lonely, status: 'stopped' } },
      { kind: 'download', resume: true },
    ],
    [
      'records a download as stalled after a minute without peers',
      { torrent: lonely, progress: progress('QUEUED', { at: { QUEUED: iso(now - 61) } }) },
      { kind: 'download', state: 'STALLED', announcePeers: true },
    ],
    [
      'records it as stalled also when it has peers, which may lack the content too, and looks after it',
      {
        torrent: { ...downloading, rateDownload: 0 },
        progress: progress('QUEUED', { at: { QUEUED: iso(now - 61) } }),
      },
      { kind: 'download', state: 'STALLED', announcePeers: true },
    ],
    [
      'leaves it to its peers while it may yet be its turn',
      {
        torrent: { ...downloading, rateDownload: 0, activeAt: now - 20 },
        progress: progress('QUEUED', { at: { QUEUED: iso(now - 61) } }),
      },
      { kind: 'download', state: 'QUEUED', announcePeers: false },
    ],
    [
      'does not record it as stalled when something came within the minute',
      {
        torrent: { ...downloading, rateDownload: 0, activeAt: now - 59 },
        progress: progress('QUEUED', { at: { QUEUED: iso(now - 99) } }),
      },
      { kind: 'download', state: 'QUEUED' },
    ],
    ...(
      [
        ['re-adds a torrent without peers of which nothing came for a minute', 61, 61, 're-add'],
        ['waits twice as long after that', 122, 61, 'download'],
        ['and then re-adds it', 123, 62, 're-add'],
        ['re-adds it at least every 15 min', 9000, 901, 're-add'],
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
      'does not re-add a torrent that has peers',
      {
        torrent: { ...lonely, percentDone: 0, peersConnected: 1, addedAt: now - 61 },
        progress: progress('STALLED', { at: { QUEUED: iso(now - 61) } }),
      },
      { kind: 'download', state: 'STALLED' },
    ],
    [
      'records that a stalled download goes on',
      { torrent: downloading, progress: progress('STALLED', { at: { QUEUED: iso(now - 99) } }) },
      { kind: 'download', state: 'QUEUED' },
    ],
    [
      'marks a complete torrent for the apply side',
      { torrent: seeding },
      { kind: 'complete', mark: true },
    ],
    [
      'does not mark a torrent twice',
      { torrent: seeding, isMarked: true },
      { kind: 'complete', mark: false },
    ],
    [
      'does not mark a torrent that is staged already',
      { torrent: seeding, outcome: progress('STAGED') },
      { kind: 'complete', mark: false },
    ],
    [
      'announces peers after the daemon was started again, since they may not try to reach it',
      {
        torrent: seeding,
        daemonSeconds: 5,
        progress: progress('COMPLETE', { at: { COMPLETE: iso(now - 99) } }),
      },
      { kind: 'complete', announcePeers: true },
    ],
    [
      'announces no peers where the daemon was up all the time',
      {
        torrent: seeding,
        daemonSeconds: 89,
        progress: progress('COMPLETE', { at: { COMPLETE: iso(now - 88) } }),
      },
      { kind: 'complete', announcePeers: false },
    ],
    [
      'announces no peers long after the start',
      {
        torrent: seeding,
        daemonSeconds: 90,
        progress: progress('COMPLETE', { at: { COMPLETE: iso(now - 999) } }),
      },
      { kind: 'complete', announcePeers: false },
    ],
    [
      'announces peers to a complete torrent that came back stopped',
      { torrent: { ...seeding, status: 'stopped' }, progress: progress('COMPLETE') },
      { kind: 'complete', resume: true, announcePeers: true },
    ],
    [
      'announces a complete torrent whose last announce failed, and which would go on asking',
      { torrent: { ...seeding, peersConnected: 0, trackers: [unanswered] } },
      { kind: 'complete', announcePeers: true },
    ],
    [
      'does not disturb a seed that has peers because of a failed announce',
      { torrent: { ...seeding, trackers: [unanswered] } },
      { kind: 'complete', announcePeers: false },
    ],
    [
      'does not care about announces to the tracker of somebody else',
      {
        torrent: {
          ...seeding,
          peersConnected: 0,
          trackers: [{ announce: 'udp://tracker.example.org:1', lastFailed: true }],
        },
      },
      { kind: 'complete', announcePeers: false },
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
      'marks a withdrawal, which has nothing to download',
      { update: { ...update, kind: 'withdraw' } },
      { kind: 'mark-complete', mark: true },
    ],
    [
      'does not mark a withdrawal again that the apply side has seen',
      { update: { ...update, kind: 'withdraw' }, outcome: progress('APPLIED') },
      { kind: 'nothing' },
    ],
    [
      'drops an update that expired before it was applied',
      { update: { ...update, expires: now }, torrent: downloading },
      { kind: 'drop', state: 'EXPIRED' },
    ],
    [
      'keeps seeding an update that was applied in time',
      { update: { ...update, expires: now }, torrent: seeding, outcome: progress('APPLIED') },
      { kind: 'complete', mark: false },
    ],
    [
      'has a torrent checked whose content was found to be wrong',
      { torrent: seeding, outcome: progress('QUEUED', { badContent: 1 }) },
      { kind: 'verify', badContent: 1 },
    ],
    [
      'marks that torrent again after the check',
      {
        torrent: seeding,
        outcome: progress('QUEUED', { badContent: 1 }),
        progress: progress('QUEUED', { badContent: 1 }),
      },
      { kind: 'complete', mark: true },
    ],
    [
      'drops an update that the apply side rejected',
      { torrent: seeding, outcome: progress('REJECTED', { badContent: 3 }) },
      { kind: 'drop', state: 'REJECTED' },
    ],
    [
      'drops a rejected update again when that was interrupted',
      { progress: progress('REJECTED'), torrent: seeding },
      { kind: 'drop', state: 'REJECTED' },
    ],
    [
      'drops an expired update again when that was interrupted',
      { progress: progress('EXPIRED'), update: { ...update, expires: now }, torrent: seeding },
      { kind: 'drop', state: 'EXPIRED' },
    ],
  ])('%s', (_, change, step) => {
    expect(decideStep(input(change))).toMatchObject(step);
  });
});

describe('decideStep after a clock that was 400 days ahead', () => {
  const future = now + 400 * 86_400;
  const queued = progress('QUEUED', { at: { QUEUED: iso(future) } });

  it.each<Row>([
    [
      'adds a torrent anew to which nothing comes, and does not wait for the time of the wrong clock',
      {
        torrent: { ...lonely, percentDone: 0, hasMetadata: false, addedAt: future },
        progress: queued,
      },
      { kind: 're-add', state: 'STALLED' },
    ],
    [
      'takes a torrent for stalled that was active in the future',
      {
        torrent: { ...lonely, peersConnected: 1, activeAt: future },
        progress: progress('QUEUED', { at: { QUEUED: iso(now - 100) } }),
      },
      { kind: 'download', state: 'STALLED' },
    ],
    [
      'checks what the daemon has, which was started since by the right clock',
      { torrent: downloading, progress: queued, daemonSeconds: 5 },
      { kind: 'verify' },
    ],
    [
      'announces the fleet to a complete torrent of a daemon that was started since',
      {
        torrent: seeding,
        progress: progress('COMPLETE', { at: { COMPLETE: iso(future) } }),
        daemonSeconds: 5,
      },
      { kind: 'complete', announcePeers: true },
    ],
    [
      'adds a torrent to a daemon whose age cannot be told, since the clock was set back',
      { progress: progress('QUEUED'), daemonSeconds: Infinity },
      { kind: 'add' },
    ],
    [
      'leaves a download alone whose daemon cannot tell its age',
      { torrent: downloading, progress: progress('QUEUED'), daemonSeconds: Infinity },
      { kind: 'download', state: 'QUEUED' },
    ],
  ])('%s', (_, change, step) => {
    expect(decideStep(input(change))).toMatchObject(step);
  });
});
