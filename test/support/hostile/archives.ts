import { gzipSync } from 'node:zlib';
import { paxRecord, tarOf, type TarEntry } from '../run/archives.ts';
import { hostileZips } from './zips.ts';

/** An archive that must be refused. */
export interface HostileArchive {
  /** Its fault, and the ending that names its format. */
  name: string;
  /** Text that the error must have. */
  reason: RegExp;
  bytes: Buffer;
}

/** A link out of each archive, or a name in it, would make this file beside the destination. */
export const escapedName = 'p2p-update-escaped';
const escape = `../${escapedName}`;

const metadata = JSON.stringify({
  name: 'acme-hostile',
  version: '1.0.0',
  author: 'acme',
  license: '',
  source: '',
  dependencies: [],
});
/**
 * Entries that make it a module as well as an environment. They come first, since a check that comes after
 * unpacking would leave it behind; and without the check the archive would be installed.
 */
export const honestEntries = [
  { name: 'metadata.json', content: metadata },
  { name: 'manifests/init.pp', content: 'class hostile { }\n' },
] as const;

const file = { name: 'ok', content: 'ok' };
const link = (name: string, linkpath: string): TarEntry => ({
  name,
  linkpath,
  type: 'SymbolicLink',
});
const hardLink = (name: string, linkpath: string): TarEntry => ({ name, linkpath, type: 'Link' });
type Edit = (header: Buffer) => void;
/** The second part of a name in the header, POSIX ustar. */
const prefix =
  (text: string): Edit =>
  (header) =>
    void header.write(text, 345);
/** Size as GNU's base-256 number. */
const binarySize =
  (...bytes: number[]): Edit =>
  (header) => {
    header.fill(0, 124, 136).set(bytes, 124);
  };

const links: [string, RegExp, TarEntry[]][] = [
  ['a symbolic link', /symbolic link/, [link('l', '/etc')]],
  ['a link that leads nowhere', /symbolic link/, [link('l', 'nowhere')]],
  ['a link to itself', /symbolic link/, [link('l', 'l')]],
  ['a link within the archive', /symbolic link/, [file, link('l', 'ok')]],
  ['a file through a link', /symbolic link/, [link('l', '..'), { name: `l/${escapedName}` }]],
  ['a directory that turns into a link', /symbolic/, [{ name: 'd/x' }, link('d', '/etc')]],
  ['a link in the place of metadata.json', /symbolic/, [link('metadata.json', '/etc/shadow')]],
  ['a link in the place of manifests', /symbolic/, [link('manifests', '/etc')]],
  ['a link with a slash at its end', /symbolic link/, [link('l/', '..')]],
  ['a chain of links', /symbolic link/, [link('a', '..'), link('a/b', '..'), { name: 'a/b/c' }]],
  [
    'a link with a GNU long target',
    /symbolic link/,
    [{ name: 'K', typeFlag: 'K', content: escape }, link('l', 'x')],
  ],
  [
    'a link with a pax target',
    /symbolic link/,
    [{ ...link('l', 'x'), pax: paxRecord('linkpath', '/etc') }],
  ],
  ['a hard link', /hard link/, [hardLink('l', '/etc/passwd')]],
  ['a hard link that leads out', /hard link/, [hardLink('l', escape)]],
  ['a hard link within the archive', /hard link/, [file, hardLink('l', 'ok')]],
  ['a hard link with content', /hard link/, [{ ...hardLink('l', '/etc/passwd'), content: 'x' }]],
  ['a file over a hard link', /hard link/, [hardLink('l', '/etc/passwd'), { name: 'l' }]],
];

const specials: [string, RegExp, TarEntry[]][] = [
  ['a character device', /device/, [{ name: 'null', type: 'CharacterDevice' }]],
  ['a block device', /device/, [{ name: 'sda', type: 'BlockDevice' }]],
  ['a FIFO', /FIFO/, [{ name: 'fifo', type: 'FIFO' }]],
  ['a FIFO for metadata.json', /FIFO/, [{ name: 'metadata.json', type: 'FIFO' }]],
  ['an unknown type', /type/, [{ name: 'x', typeFlag: 'Z' }]],
  ['a GNU dump directory', /type/, [{ name: 'd/', typeFlag: 'D' }]],
  ['a GNU continued volume', /type/, [{ name: 'x', typeFlag: 'M' }]],
  ['a sparse file', /Sparse/, [{ name: 'x', typeFlag: 'S' }]],
  ['a pax sparse file', /sparse/, [{ name: 'x', pax: paxRecord('GNU.sparse.major', '1') }]],
  ['a set-user-id bit', /set-id/, [{ name: 'su', mode: 0o4755 }]],
  ['a set-group-id bit', /set-id/, [{ name: 'sg', mode: 0o2755 }]],
  ['a set-user-id bit on nothing runnable', /set-id/, [{ name: 'su', mode: 0o4000 }]],
  ['a set-user-id directory', /set-id/, [{ name: 'd/', type: 'Directory', mode: 0o4755 }]],
  ['a set-user-id bit on the top', /set-id/, [{ name: './', type: 'Directory', mode: 0o4755 }]],
];

const names: [string, RegExp, TarEntry[]][] = [
  ['an absolute name', /absolute/, [{ name: `/tmp/${escapedName}` }]],
  ['a name with two slashes in front', /absolute/, [{ name: `//tmp/${escapedName}` }]],
  ['an absolute directory', /absolute/, [{ name: `/tmp/${escapedName}/`, type: 'Directory' }]],
  ['an absolute prefix', /absolute/, [{ name: escapedName, edit: prefix('/tmp') }]],
  ['a name that leads out', /leads out/, [{ name: escape }]],
  ['a name that leads out half-way', /leads out/, [{ name: `a/../${escape}` }]],
  ['a name that leads out and back', /leads out/, [{ name: '../module/x' }]],
  ['a name that stays within', /leads out/, [{ name: 'a/../b' }]],
  ['a name that ends in two dots', /leads out/, [{ name: 'a/..' }]],
  ['a name of two dots', /leads out/, [{ name: '..' }]],
  ['a name with dots and slashes', /leads out/, [{ name: `.//.././/${escapedName}` }]],
  ['a directory that leads out', /leads out/, [{ name: `${escape}/`, type: 'Directory' }]],
  ['a prefix that leads out', /leads out/, [{ name: escapedName, edit: prefix('..') }]],
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
  ['a backslash in a name', /backslash/, [{ name: `..\\${escapedName}` }]],
  ['a Windows path', /backslash/, [{ name: 'C:\\Windows\\x' }]],
  ['a name that is not UTF-8', /UTF-8/, [{ name: Buffer.from([0x61, 0xff]) }]],
  [
    'an overlong slash in a name',
    /UTF-8/,
    [{ name: Buffer.concat([Buffer.from('..'), Buffer.from([0xc0, 0xaf]), Buffer.from('x')]) }],
  ],
  ['half a surrogate in a name', /UTF-8/, [{ name: Buffer.from([0x61, 0xed, 0xa0, 0x80]) }]],
  ['a name of 300 bytes', /too long/, [{ name: 'n'.repeat(300) }]],
  ['a path of 1100 bytes', /too long/, [{ name: 'd/'.repeat(550) + 'f' }]],
  ['a file without a name', /no name/, [{ name: '.' }]],
  ['a file with an empty name', /no name/, [{ name: Buffer.from([0]) }]],
  ['a file that is also a directory', /file and a directory/, [file, { name: 'ok/below' }]],
  ['a directory that is also a file', /twice/, [{ name: 'ok/below' }, file]],
  ['a file twice', /twice/, [file, { name: './ok', content: 'other' }]],
  ['metadata.json twice', /twice/, [{ name: 'metadata.json', content: '{}' }]],
];

const lies: [string, RegExp, TarEntry[]][] = [
  ['a pax header that does not parse', /pax/, [{ name: 'x', pax: '99 path=x\n' }]],
  ['a pax size that is no number', /size/, [{ name: 'x', pax: paxRecord('size', '-1') }]],
  ['a pax size in hex', /size/, [{ name: 'x', pax: paxRecord('size', '0x200') }]],
  ['a pax header of 1 MiB', /too long/, [{ name: 'x', pax: paxRecord('c', 'c'.repeat(2 ** 20)) }]],
  ['more content than there is', /too early/, [{ name: 'x', content: 'x', size: 5000 }]],
  ['a size below zero', /size/, [{ name: 'x', edit: binarySize(...Array<number>(12).fill(0xff)) }]],
  ['a size of 2^70', /number|size/, [{ name: 'x', edit: binarySize(0x80, 0, 0, 0x40) }]],
  [
    'a size that is text',
    /size/,
    [{ name: 'x', edit: (header) => void header.write('size', 124) }],
  ],
  [
    'extension headers without end',
    /in a row/,
    Array.from({ length: 20 }, () => ({ name: 'x', typeFlag: 'x', content: paxRecord('c', 'c') })),
  ],
];

const tarBytes = tarOf(honestEntries);
const damaged: HostileArchive[] = (
  [
    ['a wrong checksum.tar', /checksum/, Buffer.from(tarBytes).fill('evil', 0, 4)],
    ['text.tar', /checksum/, Buffer.from('This is not an archive.\n'.repeat(100))],
    ['a cut end.tar', /too early/, tarOf([...honestEntries, file]).subarray(0, 2_700)],
    ['a cut gzip.tar.gz', /end of file/, gzipSync(tarBytes).subarray(0, 60)],
    ['a broken gzip.tar.gz', /invalid/, gzipSync(tarBytes).fill(7, 20)],
    ['twice gzipped.tar.gz', /compressed with gzip/, gzipSync(gzipSync(tarBytes))],
  ] satisfies [string, RegExp, Buffer][]
).map(([name, reason, bytes]) => ({ name, reason, bytes }));

/** Every one of them must be refused, whole, by its own fault. */
export const hostileArchives: readonly HostileArchive[] = [
  ...[...links, ...specials, ...names, ...lies].map(([what, reason, entries]) => ({
    name: `${what}.tar`,
    reason,
    bytes: tarOf([...honestEntries, ...entries]),
  })),
  ...damaged,
  ...hostileZips(honestEntries, escapedName),
];
