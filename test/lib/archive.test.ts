import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { beforeEach, describe, expect, test } from 'vitest';
import { checkArchive, findRoot, unpackArchive } from '../../lib/archive.ts';
import { UpdateError } from '../../lib/errors.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import { paxRecord, tarOf, zipOf, type TarEntry } from '../support/archives.ts';
import { readTree } from '../support/tree.ts';

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
  ])('%s is unpacked with plain modes, under any umask', async (name, bytes) => {
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
  ])('%s is understood', async (_, bytes) => {
    const listing = await checkArchive(place('a.tar', bytes));
    expect(listing.get(longName)).toBe('file');
    expect(listing.size).toBe(61);
  });
});

const escape = '../escaped';
const file = { name: 'ok', content: 'ok' };
const hostileTars: [string, RegExp, TarEntry[]][] = [
  ['a symbolic link', /symbolic link/, [{ name: 'l', type: 'SymbolicLink', linkpath: '/etc' }]],
  [
    'a file through a symbolic link',
    /symbolic link/,
    [
      { name: 'l', type: 'SymbolicLink', linkpath: '..' },
      { name: 'l/escaped', content: 'x' },
    ],
  ],
  ['a hard link', /hard link/, [{ name: 'l', type: 'Link', linkpath: '/etc/passwd' }]],
  ['a character device', /device/, [{ name: 'null', type: 'CharacterDevice' }]],
  ['a block device', /device/, [{ name: 'sda', type: 'BlockDevice' }]],
  ['a FIFO', /FIFO/, [{ name: 'fifo', type: 'FIFO' }]],
  ['an unknown type', /type/, [{ name: 'x', typeFlag: 'Z' }]],
  ['a sparse file', /Sparse/, [{ name: 'x', typeFlag: 'S' }]],
  ['a pax sparse file', /sparse/, [{ name: 'x', pax: paxRecord('GNU.sparse.major', '1') }]],
  ['a set-user-id bit', /set-id/, [{ name: 'su', mode: 0o4755 }]],
  ['a set-group-id directory', /set-id/, [{ name: 'd/', type: 'Directory', mode: 0o2755 }]],
  ['an absolute name', /absolute/, [{ name: '/tmp/escaped', content: 'x' }]],
  ['a name that leads out', /leads out/, [{ name: escape, content: 'x' }]],
  ['a name that leads out half-way', /leads out/, [{ name: `a/../${escape}`, content: 'x' }]],
  ['a directory that leads out', /leads out/, [{ name: '../d/', type: 'Directory' }]],
  ['a pax name that leads out', /leads out/, [{ name: 'fine', pax: paxRecord('path', escape) }]],
  [
    'a GNU long name that leads out',
    /leads out/,
    [{ name: 'L', typeFlag: 'L', content: escape }, { name: 'fine' }],
  ],
  ['a NUL in a pax name', /control/, [{ name: 'fine', pax: paxRecord('path', 'a\0b') }]],
  ['a newline in a name', /control/, [{ name: 'a\nb' }]],
  ['an escape sequence in a name', /control/, [{ name: 'a\u001b[2Jb' }]],
  ['a C1 control in a name', /control/, [{ name: 'a\u009bb' }]],
  ['a backslash in a name', /backslash/, [{ name: '..\\escaped' }]],
  ['a name that is not UTF-8', /UTF-8/, [{ name: Buffer.from([0x61, 0xff]) }]],
  ['a name of 300 bytes', /too long/, [{ name: 'n'.repeat(300) }]],
  ['a path of 1100 bytes', /too long/, [{ name: 'd/'.repeat(550) + 'f' }]],
  ['a file without a name', /no name/, [{ name: '.' }]],
  ['a file that is also a directory', /file and a directory/, [file, { name: 'ok/below' }]],
  ['a directory that is also a file', /twice/, [{ name: 'ok/below' }, file]],
  ['a file twice', /twice/, [file, { name: './ok', content: 'other' }]],
  ['a pax header that does not parse', /pax/, [{ name: 'x', pax: '99 path=x\n' }]],
  ['a pax size that is no number', /size/, [{ name: 'x', pax: paxRecord('size', '-1') }]],
  ['a pax header of 1 MiB', /too long/, [{ name: 'x', pax: paxRecord('c', 'c'.repeat(2 ** 20)) }]],
  ['more content than there is', /too early/, [{ name: 'x', content: 'x', size: 5000 }]],
  [
    'extension headers without end',
    /in a row/,
    Array.from({ length: 20 }, () => ({ name: 'x', typeFlag: 'x', content: paxRecord('c', 'c') })),
  ],
];
const tarBytes = tarOf([file]);
const hostileFiles: [string, RegExp, Buffer][] = [
  ['a wrong checksum.tar', /checksum/, Buffer.concat([Buffer.from('evil'), tarBytes.subarray(4)])],
  ['text.tar', /checksum/, Buffer.from('This is not an archive.\n'.repeat(100))],
  ['a cut end.tar', /too early/, tarOf([file, file], { end: 0 }).subarray(0, 700)],
  ['a cut gzip.tar.gz', /end of file/, gzipSync(tarBytes).subarray(0, 60)],
  ['a broken gzip.tar.gz', /invalid/, gzipSync(tarBytes).fill(7, 20)],
  ['twice gzipped.tar.gz', /too early/, gzipSync(gzipSync(tarBytes))],
  ['text.zip', /not a zip/, Buffer.from('no zip')],
  ['a cut end.zip', /truncated/, zipOf([file]).subarray(0, -30)],
  ['a link.zip', /symbolic link/, zipOf([file, { name: 'l', content: '/', mode: 0o120777 }])],
  ['a device.zip', /special/, zipOf([file, { name: 'null', mode: 0o020666 }])],
  ['a set-user-id bit.zip', /set-id/, zipOf([file, { name: 'su', mode: 0o104755 }])],
  ['a name that leads out.zip', /\.\.\/escaped/, zipOf([file, { name: escape, content: 'x' }])],
  ['an absolute name.zip', /absolute/, zipOf([file, { name: '/tmp/escaped', content: 'x' }])],
  ['a backslash.zip', /invalid characters/, zipOf([file, { name: '..\\escaped' }])],
  ['a drive letter.zip', /absolute/, zipOf([file, { name: 'c:escaped', content: 'x' }])],
  ['a NUL in a name.zip', /control/, zipOf([file, { name: 'a\0b' }])],
  ['a control byte in an old name.zip', /control/, zipOf([file, { name: 'a\u001bb', flags: 0 }])],
  ['a file twice.zip', /twice/, zipOf([file, file])],
  ['an encrypted file.zip', /encrypted/, zipOf([file, { name: 'x', content: 'x', flags: 0x801 }])],
  ['too little content.zip', /not enough/, zipOf([file, { name: 'x', content: 'x', size: 9 }])],
  ['too much content.zip', /too many/, zipOf([file, { name: 'x', content: 'xxxx', size: 1 }])],
  ['a wrong CRC.zip', /CRC/, zipOf([file, { name: 'x', content: 'x', crc: 1 }])],
];

describe('a hostile or damaged archive is refused, and nothing is written', () => {
  const hostile: [string, RegExp, Buffer][] = [
    // Behind an honest entry: a check that comes after unpacking would leave that one.
    ...hostileTars.map(([what, reason, entries]): [string, RegExp, Buffer] => [
      `${what}.tar`,
      reason,
      tarOf([{ name: 'first', content: 'x' }, ...entries]),
    ]),
    ...hostileFiles,
  ];
  test.each(hostile)('%s', async (name, reason, bytes) => {
    const path = place(name, bytes);
    for (const attempt of ['first', 'second']) {
      const error: unknown = await unpackArchive(path, join(dir, 'out')).catch((e: unknown) => e);
      expect(error, attempt).toBeInstanceOf(UpdateError);
      expect(error, attempt).toMatchObject({ code: 'malformed' });
      expect((error as UpdateError).message).toMatch(reason);
      // Nothing in it that a terminal would obey.
      expect((error as UpdateError).message).not.toMatch(/[\u0000-\u001f\u007f-\u009f]/);
      expect(readdirSync(dir)).toEqual([name]);
    }
    expect(existsSync(join(dir, '../escaped'))).toBe(false);
    expect(existsSync('/tmp/escaped')).toBe(false);
  });
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
  ])('%s is refused', async (name, bytes) => {
    const limits = { maxEntries: 100, maxBytes: 4_000_000 };
    const path = place(name, bytes);
    await expect(unpackArchive(path, join(dir, 'out'), limits)).rejects.toMatchObject({
      code: 'malformed',
    });
    expect(readdirSync(dir)).toEqual([name]);
  });

  test('an archive exactly at them passes', async () => {
    const path = place('fits.tar', tarOf([{ name: 'd/f', content: 'x'.repeat(10) }]));
    await expect(checkArchive(path, { maxEntries: 2, maxBytes: 10 })).resolves.toHaveProperty(
      'size',
      2,
    );
  });
});

test('a destination that exists is not unpacked into', async () => {
  const path = place('a.tar', tarOf([file]));
  await expect(unpackArchive(path, dir)).rejects.toMatchObject({ code: 'EEXIST' });
  expect(readdirSync(dir)).toEqual(['a.tar']);
});

test('a missing archive is a file system error, not a malformed one', async () => {
  for (const name of ['none.tar', 'none.zip'])
    await expect(checkArchive(join(dir, name))).rejects.toMatchObject({ code: 'ENOENT' });
});

describe('findRoot', () => {
  const listing = (...paths: string[]): Map<string, 'file' | 'directory'> =>
    new Map(paths.map((path) => [path, path.endsWith('.json') ? 'file' : 'directory']));
  test.each<[string, string[], string | undefined]>([
    ['at the top', ['metadata.json'], ''],
    ['the top before a directory', ['metadata.json', 'a', 'a/metadata.json'], ''],
    ['below one top directory', ['a', 'a/metadata.json', '__MACOSX'], 'a'],
    ['below one, and deeper too', ['a', 'a/metadata.json', 'a/b', 'a/b/metadata.json'], 'a'],
    ['below two', ['a', 'a/metadata.json', 'b', 'b/metadata.json'], undefined],
    ['too deep', ['a', 'a/b', 'a/b/metadata.json'], undefined],
    ['nowhere', ['a'], undefined],
  ])('%s', (_, paths, expected) => {
    expect(findRoot(listing(...paths), 'metadata.json', 'file')).toBe(expected);
  });
});
