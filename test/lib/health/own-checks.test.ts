import { chmodSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { judgeClock } from '../../../lib/health/clock.ts';
import { type Disk, judgeDisks, readDisks } from '../../../lib/health/disk.ts';
import { judgeKeySet, ownChecks, tryKeySet } from '../../../lib/health/own-checks.ts';
import { judgePlaces, type Place, type PlacesInput } from '../../../lib/health/places.ts';
import { makeLoneNode } from '../../support/fleet/lone-node.ts';

const MiB = 2 ** 20;
const disk = (change: Partial<Disk> = {}): Disk => ({
  path: '/state',
  freeBytes: 1024 * MiB,
  freeFiles: 1000,
  contentBytes: 0,
  ...change,
});

describe('the check of the disk', () => {
  it.each<[string, Disk[], string, RegExp]>([
    ['space is left', [disk(), disk({ freeFiles: null })], 'ok', /^1024 MiB left at \/state/],
    [
      'updates take some of it',
      [disk({ contentBytes: 20 * MiB })],
      'ok',
      /at \/state \(updates take 20 MiB\)$/,
    ],
    ['little is left', [disk({ freeBytes: 100 * MiB })], 'warn', /^100 MiB left at \/state$/],
    ['none is left', [disk({ freeBytes: 0 })], 'fail', /^disk full: 0 MiB left at \/state$/],
    ['no inode is left', [disk({ freeFiles: 0 })], 'fail', /^disk full: no inode left at \/state$/],
    ['one of two is full', [disk(), disk({ path: '/b', freeBytes: 1 })], 'fail', /at \/b$/],
    ['nothing can be seen', [], 'skipped', /^needs root/],
  ])('judges that %s', (_, disks, verdict, what) => {
    const check = judgeDisks(disks);
    expect(check).toMatchObject({ verdict, what: expect.stringMatching(what) as string });
    expect(check.fix.length > 0).toBe(verdict === 'warn' || verdict === 'fail');
  });

  it('reads one entry for each file system, and takes a missing directory for its parent', () => {
    const { config } = makeLoneNode();
    rmSync(config.deliveryDir, { recursive: true, force: true });
    const disks = readDisks(config);
    expect(disks.map(({ path }) => path)).toEqual([config.stateDir]);
    expect(disks[0]?.freeBytes).toBeGreaterThan(0);
    mkdirSync(config.downloadDir, { recursive: true });
    writeFileSync(join(config.downloadDir, `${'a'.repeat(32)}-f.bin`), 'update');
    writeFileSync(join(config.downloadDir, 'of-others.iso'), 'not one of ours');
    expect(readDisks(config)[0]?.contentBytes).toBe('update'.length);
  });
});

describe('the check of the clock', () => {
  const base = { nowSeconds: 2_000_000_000, buildTime: 1_900_000_000, newestCreated: null };

  it.each<[string, Partial<Parameters<typeof judgeClock>[0]>, string]>([
    ['is after the build', {}, 'ok'],
    ['is before the build', { nowSeconds: 1_899_999_999 }, 'fail'],
    ['is near the newest announcement', { newestCreated: base.nowSeconds + 600 }, 'ok'],
    ['is far behind the newest announcement', { newestCreated: base.nowSeconds + 601 }, 'fail'],
  ])('judges a clock that %s', (_, change, verdict) => {
    expect(judgeClock({ ...base, ...change })).toMatchObject({ verdict });
  });
});

describe('the check of owners and modes', () => {
  const found = { isDirectory: true, uid: 0, gid: 0, mode: 0o755, write: 'allowed' as const };
  const place = (change: Partial<typeof found> | Place['found'] = {}): Place => ({
    path: '/apply',
    wanted: { owner: 'root', group: 'root', mode: 0o755 },
    found: typeof change === 'string' ? change : { ...found, ...change },
  });
  const accounts = { users: new Map(), groups: new Map() };
  const lab = { accounts, isSplit: false, uid: 0 };
  const split = { accounts, isSplit: true, uid: 0 };

  it.each<[string, Omit<PlacesInput, 'places'>, Place[], string, string]>([
    ['is as set-up made it', split, [place()], 'ok', '1 directories as set-up made them'],
    [
      'has another mode',
      split,
      [place({ mode: 0o700 })],
      'fail',
      '/apply is 0:0 0700, not root:root 0755',
    ],
    [
      'has another owner',
      split,
      [place({ uid: 5 })],
      'fail',
      '/apply is 5:0 0755, not root:root 0755',
    ],
    ['is missing', split, [place('missing')], 'fail', '/apply is missing'],
    ['is missing in a lab', lab, [place('missing')], 'ok', '1 directories, all of one user'],
    ['is of one user', lab, [place({ mode: 0o700 })], 'ok', '1 directories, all of one user'],
    ['is open', lab, [place({ mode: 0o777 })], 'fail', '/apply can be written by every user'],
    ['is no directory', lab, [place({ isDirectory: false })], 'fail', '/apply is not a directory'],
    [
      'is read-only',
      lab,
      [place({ write: 'read-only' } as object)],
      'fail',
      '/apply lies on a read-only file system',
    ],
    [
      'cannot be written',
      lab,
      [place({ write: 'denied' } as object)],
      'fail',
      '/apply cannot be written',
    ],
    [
      'is closed',
      split,
      [place('closed')],
      'skipped',
      'needs root: the directories are closed to this user',
    ],
    [
      'is one of two',
      split,
      [place('missing'), place({ uid: 5 })],
      'fail',
      '/apply is missing (and 1 more)',
    ],
  ])('judges a directory that %s', (_, input, places, verdict, what) => {
    expect(judgePlaces({ ...input, places })).toMatchObject({ verdict, what });
  });
});

describe('the checks of the files of a node', () => {
  const input = { newestCreated: null, nowSeconds: 2, buildTime: 1 };

  it('are ok on a sound node, and name what was broken', () => {
    const { config } = makeLoneNode();
    mkdirSync(config.deliveryDir, { recursive: true });
    const verdicts = () =>
      ownChecks(config, { ...input, keySet: tryKeySet(config) }).map(({ id, verdict }) => [
        id,
        verdict,
      ]);
    const sound = ['disk', 'key-set', 'places', 'clock'].map((id) => [id, 'ok']);
    expect(verdicts()).toEqual([...sound, ['machine', 'skipped']]);
    chmodSync(config.stateDir, 0o777);
    expect(verdicts()).toContainEqual(['places', 'fail']);
    chmodSync(config.stateDir, 0o755);
    rmSync(config.keySetFile);
    expect(verdicts()).toContainEqual(['key-set', 'fail']);
  });

  it('end a missing key set in the command that places one, and move a damaged one away first', () => {
    const { config } = makeLoneNode();
    writeFileSync(config.keySetFile, 'nonsense');
    expect(judgeKeySet(tryKeySet(config), config).fix).toEqual([
      expect.stringMatching(/^mv /),
      expect.stringMatching(/ setup --keyset keyset\.txt$/),
    ]);
    rmSync(config.keySetFile);
    const check = judgeKeySet(tryKeySet(config), config);
    expect(check.what).toContain(join('etc', 'keyset.txt'));
    expect(check.fix).toEqual([expect.stringMatching(/ setup --keyset keyset\.txt$/)]);
  });
});
