import { mkdirSync, readdirSync, statfsSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { describe, expect, onTestFinished, test } from 'vitest';
import { archiveLimits, checkArchive, unpackArchive } from '../../lib/content/archive.ts';
import { makeApplySide, stagedIn } from '../support/fleet/apply-side.ts';
import { paxRecord, tarOf, zipOf, type TarEntry } from '../support/run/archives.ts';
import { gzipBomb, nestedTar, nestedZip, overlappingZip, repeatedEntry, zipBomb } from './bombs.ts';
import { honestEntries } from '../support/hostile/archives.ts';
import { temporaryDirectory } from '../support/run/temporary.ts';
import { waitFor } from '../support/run/wait-for.ts';
import { mustRun, runSync } from '../support/run/command.ts';

// Zip and tar bombs: bytes are counted while unpacking, and there are at most 10,000 entries.

const MiB = 2 ** 20;
const GiB = 2 ** 30;
const tooMuch = /unpacks to more than 1073741824 bytes/;
const tooMuchHere = /unpacks to more than 134217728 bytes/;
const tooMany = /more than 10000 files and directories/;

/** A file system of a few MiB: far too small for a bomb, so that unpacking one would fill it. */
function smallDisk(directory: string, bytes: number): { path: string; used: () => number } {
  const path = join(directory, 'small disk');
  mkdirSync(path);
  mustRun(['mount', '-t', 'tmpfs', '-o', `size=${bytes}`, 'tmpfs', path]);
  onTestFinished(() => void runSync(['umount', '-l', path]));
  const used = (): number => {
    const { bsize, blocks, bfree } = statfsSync(path);
    return (blocks - bfree) * bsize;
  };
  return { path, used };
}

interface Probe {
  refused?: string;
  kind?: string;
  peakMiB: number;
}

function probe(action: 'detect' | 'guess' | 'unpack', file: string, destination: string): Probe {
  const script = join(import.meta.dirname, 'bomb-probe.ts');
  const command = [process.execPath, '--import', 'tsx', script, action, file, destination];
  const { status, stdout, stderr } = runSync(command);
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  return JSON.parse(stdout) as Probe;
}

test('gives up a signed bomb, and the disk never holds more than its packed bytes', async () => {
  const directory = temporaryDirectory();
  const disk = smallDisk(directory, 24 * MiB);
  const node = makeApplySide(directory, { applyDir: join(disk.path, 'apply') });
  await node.apply();
  const before = disk.used();
  const bomb = gzipBomb(honestEntries, 8 * GiB);
  expect(bomb.length).toBeLessThan(10 * MiB);
  const update = node.receive({ kind: 'module', name: 'bomb.tar.gz' }, bomb);
  let peak = 0;
  const sampler = setInterval(() => (peak = Math.max(peak, disk.used())), 5);
  await node.apply();
  clearInterval(sampler);
  expect(node.outcomeOf(update)).toMatchObject({ state: 'POISONED' });
  expect(node.outcomeOf(update)?.reason).toMatch(tooMuch);
  // It has seen the staged copy, and nothing of the content.
  expect(peak).toBeGreaterThanOrEqual(bomb.length);
  expect(peak - before).toBeLessThan(bomb.length + MiB);
  expect(stagedIn(node)).toEqual([]);
  await waitFor('the copy to be gone', () => disk.used() - before < 64 * 1024);
});

describe('memory stays small and nothing is written', () => {
  /** The memory for a harmless archive, in MiB: that of Node itself. */
  let baseline = 0;
  const spareMiB = 64;

  test('for a harmless archive, which is the measure for the bombs', () => {
    const directory = temporaryDirectory();
    const file = join(directory, 'harmless.tar.gz');
    writeFileSync(file, gzipSync(tarOf(honestEntries)));
    const { refused, peakMiB } = probe('unpack', file, join(directory, 'out'));
    expect(refused).toBeUndefined();
    baseline = peakMiB;
  });

  const directoryAgain: TarEntry = { name: 'd/', type: 'Directory' };
  test.each<['detect' | 'guess' | 'unpack', string, object, () => Buffer]>([
    // Only a node's own limits end it: it is long, and no part of it makes it a module.
    ['guess', 'gzip ratio.tar.gz', { kind: 'file' }, () => gzipBomb([], 8 * GiB)],
    ['unpack', 'deflate ratio.zip', tooMuchHere, () => zipBomb(honestEntries, 2 * GiB)],
    ['unpack', 'overlapping files.zip', tooMuchHere, () => overlappingZip(honestEntries, 9_000)],
    [
      'unpack',
      'a million times one directory.tar.gz',
      tooMany,
      () => repeatedEntry(honestEntries, directoryAgain, 1e6),
    ],
    [
      'detect',
      'a million times the top.tar.gz',
      tooMany,
      () => repeatedEntry(honestEntries, { ...directoryAgain, name: './' }, 1e6),
    ],
    [
      'guess',
      'a million files.tar.gz',
      { kind: 'file' },
      () => repeatedEntry([], { name: 'f/g' }, 1e6),
    ],
  ])('for the bomb, %s of %s', (action, name, expected, make) => {
    const directory = temporaryDirectory();
    const disk = smallDisk(directory, MiB);
    const file = join(directory, name);
    writeFileSync(file, make());
    const result = probe(action, file, join(disk.path, 'out'));
    expect(result).toMatchObject(
      expected instanceof RegExp
        ? { refused: expect.stringMatching(expected) as string }
        : expected,
    );
    expect(result.peakMiB).toBeLessThan(baseline + spareMiB);
    expect(readdirSync(disk.path)).toEqual([]);
  });
});

describe('entries', () => {
  const { maxEntries } = archiveLimits;
  const names = (count: number, make: (i: number) => string): { name: string }[] =>
    Array.from({ length: count }, (_, i) => ({ name: make(i) }));
  const place = (name: string, bytes: Buffer): string => {
    const path = join(temporaryDirectory(), name);
    writeFileSync(path, bytes);
    return path;
  };

  test('are limited to 10,000', () => {
    expect(maxEntries).toBe(10_000);
  });

  test.each([
    ['a.tar', tarOf],
    ['a.zip', zipOf],
  ])('pass in %s up to the limit, and one more is refused', async (name, pack) => {
    // Directories, since a zip has to be inflated for each file.
    const flat = (i: number): string => `d${i}/`;
    const listing = await checkArchive(place(name, pack(names(maxEntries, flat))));
    expect(listing.size).toBe(maxEntries);
    await expect(checkArchive(place(name, pack(names(maxEntries + 1, flat))))).rejects.toThrow(
      tooMany,
    );
    // 40 names of 251 directories and a file each.
    const deep = names(40, (i) => `${i}/${'d/'.repeat(250)}f`);
    await expect(checkArchive(place(name, pack(deep)))).rejects.toThrow(tooMany);
    const again = names(maxEntries + 1, () => 'd/');
    await expect(checkArchive(place(name, pack(again)))).rejects.toThrow(tooMany);
  });
});

describe('a size that is a lie', () => {
  const limits = { maxEntries: 10, maxBytes: 4 * MiB };
  const huge = '9'.repeat(15);
  test.each<[string, RegExp, Buffer]>([
    ['small.zip', /too many bytes/, zipBomb([], 16 * MiB, 10)],
    ['nothing.zip', /too many bytes/, zipBomb([], 16 * MiB, 0)],
    ['large.zip', /not enough bytes/, zipOf([{ name: 'x', content: 'x', size: 0xfffffffe }])],
    ['large.tar', /too early/, tarOf([{ name: 'x', content: 'x', size: 0o77777777777 }])],
    ['pax.tar', /too early/, tarOf([{ name: 'x', pax: paxRecord('size', huge) }])],
    ['cut.tar.gz', /unpacks to more/, gzipBomb([], 16 * MiB).subarray(0, 20_000)],
    ['true.tar.gz', /unpacks to more/, gzipBomb([], 16 * MiB)],
    ['true.zip', /unpacks to more/, zipBomb([], 16 * MiB)],
    ['split.tar', /unpacks to more/, tarOf(split(5))],
  ])('is refused in %s', async (name, reason, bytes) => {
    const directory = temporaryDirectory();
    const file = join(directory, name);
    writeFileSync(file, bytes);
    await expect(unpackArchive(file, join(directory, 'out'), limits)).rejects.toThrow(reason);
    expect(readdirSync(directory)).toEqual([name]);
  });

  test('is judged by bytes that count once each, up to the last one that is allowed', async () => {
    const directory = temporaryDirectory();
    const file = join(directory, 'a.tar');
    writeFileSync(file, tarOf(split(4)));
    await unpackArchive(file, join(directory, 'out'), limits);
    expect(statSync(join(directory, 'out', '3')).size).toBe(MiB);
  });

  function split(files: number): TarEntry[] {
    return Array.from({ length: files }, (_, i) => ({ name: `${i}`, content: Buffer.alloc(MiB) }));
  }
});

describe('an archive within an archive', () => {
  test.each([
    ['nested.zip', nestedZip(6)],
    ['nested.tar.gz', nestedTar(4)],
  ])('%s stays packed', async (name, bytes) => {
    const directory = temporaryDirectory();
    const file = join(directory, name);
    writeFileSync(file, bytes);
    await unpackArchive(file, join(directory, 'out'));
    const ending = name.slice('nested'.length);
    const inner = readdirSync(join(directory, 'out')).sort();
    expect(inner).toEqual(Array.from({ length: 10 }, (_, i) => `${i}${ending}`));
    for (const each of inner)
      expect(statSync(join(directory, 'out', each)).size).toBeLessThan(64 * 1024);
  });

  test('is not read after the end of a tar', async () => {
    const file = join(temporaryDirectory(), 'a.tar.gz');
    const bomb = gzipBomb([...honestEntries], 64 * MiB);
    writeFileSync(file, Buffer.concat([gzipSync(tarOf(honestEntries)), bomb]));
    const listing = await checkArchive(file, { maxEntries: 10, maxBytes: MiB });
    expect(listing.size).toBe(3);
  });
});
