import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { beforeEach, describe, expect, test } from 'vitest';
import { checkArchive, findRoot, unpackArchive } from '../../../lib/content/archive.ts';
import { FaultyContent } from '../../../lib/content/faults.ts';
import { UpdateError } from '../../../lib/errors.ts';
import { temporaryDirectory } from '../../support/run/temporary.ts';
import { paxRecord, tarOf, zipOf, type TarEntry } from '../../support/run/archives.ts';
import { hostileArchives } from '../../support/hostile/archives.ts';
import { readTree } from '../../support/run/tree.ts';

let dir: string;
beforeEach(() => {
  dir = temporaryDirectory();
});

function place(name: string, bytes: Buffer): string {
  const path = join(dir, name);
  writeFileSync(path, bytes);
  return path;
}

const honest: TarEntry[] = [
  { name: './', type: 'Directory', mode: 0o755 },
  { name: './run.sh', content: '#!/bin/sh\n', mode: 0o775 },
  { name: './a b/', type: 'Directory', mode: 0o700 },
  { name: './a b/ünï.txt', content: 'x'.repeat(513), mode: 0o600 },
  { name: `implied/${'long'.repeat(40)}`, content: '' },
];
const unpacked = {
  'a b': '755 directory',
  'a b/ünï.txt': `644 ${'x'.repeat(513)}`,
  implied: '755 directory',
  [`implied/${'long'.repeat(40)}`]: '644 ',
  'run.sh': '755 #!/bin/sh\n',
};

describe('an honest archive', () => {
  const longName = 'd/'.repeat(60) + 'f';
  test.each<[string, Buffer]>([
    ['a.tar', tarOf(honest)],
    ['a.tar.gz', gzipSync(tarOf(honest))],
    ['a.tgz', gzipSync(tarOf(honest))],
    ['without-end.tar', tarOf(honest, { end: 0 })],
    [
      'a.zip',
      zipOf([
        { name: 'run.sh', content: '#!/bin/sh\n', mode: 0o100775 },
        { name: 'a b/', mode: 0o040700 },
        { name: 'a b/ünï.txt', content: 'x'.repeat(513), mode: 0o100600 },
        { name: `implied/${'long'.repeat(40)}` },
      ]),
    ],
  ])('is unpacked from %s with plain modes, under any umask', async (name, bytes) => {
    const umask = process.umask(0o077);
    try {
      await unpackArchive(place(name, bytes), join(dir, 'out'));
    } finally {
      process.umask(umask);
    }
    expect(readTree(join(dir, 'out'))).toEqual(unpacked);
  });

  test.each<[string, Buffer]>([
    [
      'a GNU long name',
      tarOf([{ name: 'x', typeFlag: 'L', content: `${longName}\0` }, { name: 'x' }]),
    ],
    ['a pax name', tarOf([{ name: 'x', pax: paxRecord('path', longName) }])],
    [
      'a global header',
      tarOf([{ name: 'g', typeFlag: 'g', content: paxRecord('comment', 'c') }, { name: longName }]),
    ],
  ])('is read when it has %s', async (_, bytes) => {
    const listing = await checkArchive(place('a.tar', bytes));
    expect(listing.get(longName)).toBe('file');
    expect(listing.size).toBe(61);
  });
});

describe('a hostile or damaged archive', () => {
  test.each(hostileArchives)(
    'is refused, and nothing is written: $name',
    async ({ name, reason, bytes }) => {
      const path = place(name, bytes);
      for (const attempt of ['first', 'second']) {
        const error: unknown = await unpackArchive(path, join(dir, 'out')).catch((e: unknown) => e);
        expect(error, attempt).toBeInstanceOf(UpdateError);
        expect(error, attempt).toMatchObject({ code: 'malformed' });
        expect((error as UpdateError).message).toMatch(reason);
        // No character in it controls a terminal.
        expect((error as UpdateError).message).not.toMatch(/[\u0000-\u001f\u007f-\u009f]/);
        expect(readdirSync(dir)).toEqual([name]);
      }
    },
  );
});

describe('limits', () => {
  const bomb = gzipSync(tarOf([{ name: 'zeros', content: Buffer.alloc(5_000_000) }]));
  const zipBomb = zipOf([{ name: 'zeros', content: Buffer.alloc(5_000_000) }]);
  const many = tarOf(Array.from({ length: 101 }, (_, i) => ({ name: `f${i}` })));
  const deep = tarOf(Array.from({ length: 4 }, (_, i) => ({ name: `${i}/`.repeat(30) + 'f' })));
  test.each<[string, Buffer]>([
    ['bomb.tar.gz', bomb],
    ['bomb.zip', zipBomb],
    ['many.tar', many],
    ['deep.tar', deep],
  ])('refuse %s', async (name, bytes) => {
    const limits = { maxEntries: 100, maxBytes: 4_000_000 };
    const path = place(name, bytes);
    await expect(unpackArchive(path, join(dir, 'out'), limits)).rejects.toMatchObject({
      code: 'malformed',
    });
    expect(readdirSync(dir)).toEqual([name]);
  });

  test('allow an archive that exactly reaches them', async () => {
    const path = place('fits.tar', tarOf([{ name: 'd/f', content: 'x'.repeat(10) }]));
    await expect(checkArchive(path, { maxEntries: 2, maxBytes: 10 })).resolves.toHaveProperty(
      'size',
      2,
    );
  });
});

describe('the faults of an archive', () => {
  const link = (name: string, linkpath: string): TarEntry => ({
    ...{ name, linkpath },
    type: 'SymbolicLink',
  });
  const faultsOf = async (entries: TarEntry[]): Promise<FaultyContent> => {
    const error: unknown = await checkArchive(place('a.tar', tarOf(entries))).catch(
      (thrown: unknown) => thrown,
    );
    expect(error).toBeInstanceOf(FaultyContent);
    return error as FaultyContent;
  };

  test('are named in one message, at most 20, with how many more there are', async () => {
    const links = Array.from({ length: 11 }, (_, i) => link(`top/l${i}`, 'file'));
    const { message } = await faultsOf([
      ...links,
      { name: 'top/file' },
      { name: 'top/su', mode: 0o4755 },
    ]);
    for (const { name } of links) expect(message).toContain(`"${name.toString()}"`);
    expect(message).toMatch(/"top\/su" has a set-id bit; each is a symbolic link: /);
    const many = await faultsOf(Array.from({ length: 25 }, (_, i) => link(`l${i}`, 'x')));
    expect(many.message).toMatch(/"l19"; and 5 more faults$/);
  });

  test.each<[string, TarEntry[], object]>([
    [
      'links within it, which can be copied',
      [link('a/l', '../b/f'), { name: 'b/f' }],
      { excludes: [], copiesLinks: true },
    ],
    [
      'links that lead round in a circle, out of it or nowhere',
      [link('a/up', '..'), link('a/self', 'self'), link('a/out', '../../x'), link('a/none', 'x')],
      { excludes: ['a/up', 'a/self', 'a/out', 'a/none'], copiesLinks: false },
    ],
    [
      'links in the tests of a module',
      [link('m/spec/fixtures/modules/m', '../../..'), link('m/spec/x', 'y')],
      { excludes: ['spec'], copiesLinks: false },
    ],
    [
      'links with a long target',
      [
        { name: 'K', typeFlag: 'K', content: `${'d/'.repeat(60)}f` },
        link('l', 'short'),
        { name: `${'d/'.repeat(60)}f` },
      ],
      { excludes: [], copiesLinks: true },
    ],
    [
      'hard links and set-id bits, of which unpacking makes plain files',
      [{ name: 'f' }, { name: 'h', type: 'Link', linkpath: 'f' }, { name: 'su', mode: 0o2755 }],
      { excludes: [], copiesLinks: false },
    ],
    ['a device', [{ name: 'd', type: 'FIFO' }], { excludes: ['d'], copiesLinks: false }],
  ])('have a remedy: %s', async (_, entries, remedy) => {
    expect((await faultsOf(entries)).remedy).toEqual(remedy);
  });

  test('have none when a name has to change', async () => {
    expect((await faultsOf([{ name: 'a\nb' }, link('l', 'x')])).remedy).toBeUndefined();
  });
});

describe('what is no archive is named', () => {
  const tar = tarOf([{ name: 'f', content: 'x' }]);
  test.each<[string, Buffer, RegExp]>([
    ['a.tar.gz', Buffer.from('BZh91AY&SY'), /it is compressed with bzip2/],
    ['a.tar.gz', Buffer.from('\xfd7zXZ\0', 'latin1'), /it is compressed with xz/],
    ['a.zip', Buffer.from('Rar!\u001a\u0007\0'), /it is a rar archive/],
    ['a.tar.gz', Buffer.from('<!DOCTYPE html>\n<title>Log in</title>'), /it is an HTML page/],
    ['a.tgz', Buffer.from('version https://git-lfs.github.com/spec/v1\n'), /pointer of Git LFS/],
    ['a.tar.gz', gzipSync(gzipSync(tar)), /what it holds is compressed with gzip/],
    ['a.tar.gz', Buffer.concat([gzipSync(tar), Buffer.from('garbage')]), /trailing garbage/],
    ['a.tar.gz', Buffer.concat([gzipSync(tar), Buffer.from('\u001f\u008b\u00ff')]), /trailing/],
  ])('%s', async (name, bytes, message) => {
    await expect(checkArchive(place(name, bytes))).rejects.toThrow(message);
  });

  test.each<[string, Buffer]>([
    ['gzip.tar', gzipSync(tar)],
    ['tar.tar.gz', tar],
    ['tar.zip', tar],
    ['zip.tar.gz', zipOf([{ name: 'f', content: 'x' }])],
    ['zeros.tar.gz', Buffer.concat([gzipSync(tar), Buffer.alloc(1000)])],
  ])('but an archive is read whatever its name says: %s', async (name, bytes) => {
    expect([...(await checkArchive(place(name, bytes))).keys()]).toEqual(['f']);
  });
});

test('does not unpack into an existing destination', async () => {
  const path = place('a.tar', tarOf([{ name: 'ok', content: 'ok' }]));
  await expect(unpackArchive(path, dir)).rejects.toMatchObject({ code: 'EEXIST' });
  expect(readdirSync(dir)).toEqual(['a.tar']);
});

test('reports a missing archive as a file system error, not as malformed', async () => {
  for (const name of ['none.tar', 'none.zip'])
    await expect(checkArchive(join(dir, name))).rejects.toMatchObject({ code: 'ENOENT' });
});

describe('findRoot', () => {
  const listing = (...paths: string[]): Map<string, 'file' | 'directory'> =>
    new Map(paths.map((path) => [path, path.endsWith('.json') ? 'file' : 'directory']));
  test.each<[string, string[], string | undefined]>([
    ['at the top', ['metadata.json'], ''],
    ['at the top and in a directory', ['metadata.json', 'a', 'a/metadata.json'], ''],
    ['below one top directory', ['a', 'a/metadata.json', '__MACOSX'], 'a'],
    ['below one, and deeper too', ['a', 'a/metadata.json', 'a/b', 'a/b/metadata.json'], 'a'],
    ['below two', ['a', 'a/metadata.json', 'b', 'b/metadata.json'], undefined],
    ['below leading directories', ['a', 'a/b', 'a/b/metadata.json'], 'a/b'],
    ['below two, one of them deep', ['a', 'b', 'b/c', 'b/c/metadata.json'], undefined],
    ['beside what macOS adds', ['a', 'a/b', 'a/b/metadata.json', '__MACOSX'], 'a/b'],
    ['nowhere', ['a'], undefined],
  ])('finds the root of an archive with the file %s', (_, paths, expected) => {
    expect(findRoot(listing(...paths), ['metadata.json', 'file'])).toBe(expected);
  });
});
