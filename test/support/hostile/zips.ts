import { crc32, deflateRawSync } from 'node:zlib';
import { zipOf, type ZipEntry } from '../run/archives.ts';

/** Info-ZIP's Unicode Path Extra Field (APPNOTE 4.6.9): another name for the entry `name`. */
function unicodePath(name: string, path: string): Buffer {
  const field = Buffer.alloc(9);
  field.writeUInt16LE(0x7075, 0);
  field.writeUInt16LE(5 + Buffer.byteLength(path), 2);
  field.writeUInt8(1, 4);
  field.writeUInt32LE(crc32(name), 5);
  return Buffer.concat([field, Buffer.from(path)]);
}

const file = { name: 'ok', content: 'ok' };

/** Hostile and damaged zip archives, each behind the honest entries. */
export function hostileZips(
  honest: readonly ZipEntry[],
  escapedName: string,
): { name: string; reason: RegExp; bytes: Buffer }[] {
  const escape = `../${escapedName}`;
  const entries: [string, RegExp, ZipEntry[]][] = [
    ['a symbolic link', /symbolic link/, [{ name: 'l', content: '/', mode: 0o120777 }]],
    ['a link that is a directory', /symbolic link/, [{ name: 'l/', mode: 0o120777 }]],
    [
      'a file through a link',
      /symbolic link/,
      [{ name: 'l', content: '..', mode: 0o120777 }, { name: `l/${escapedName}` }],
    ],
    ['a link for modules', /symbolic link/, [{ name: 'modules', content: '/', mode: 0o120777 }]],
    ['a character device', /special/, [{ name: 'null', mode: 0o020666 }]],
    ['a block device', /special/, [{ name: 'sda', mode: 0o060660 }]],
    ['a FIFO', /special/, [{ name: 'fifo', mode: 0o010644 }]],
    ['a socket', /special/, [{ name: 'socket', mode: 0o140755 }]],
    ['an unknown type', /special/, [{ name: 'x', mode: 0o150644 }]],
    ['a set-user-id bit', /set-id/, [{ name: 'su', mode: 0o104755 }]],
    ['a set-group-id bit', /set-id/, [{ name: 'sg', mode: 0o102755 }]],
    ['a set-user-id directory', /set-id/, [{ name: 'd/', mode: 0o044755 }]],
    ['a name that leads out', /\.\.\/p2p/, [{ name: escape }]],
    ['a name that leads out half-way', /\.\.\/p2p/, [{ name: `a/../${escape}` }]],
    ['a directory that leads out', /\.\.\/p2p/, [{ name: `${escape}/` }]],
    ['a name of two dots', /relative path: \.\./, [{ name: '..' }]],
    ['an absolute name', /absolute/, [{ name: `/tmp/${escapedName}` }]],
    ['a backslash', /invalid characters/, [{ name: `..\\${escapedName}` }]],
    ['a backslash in an old name', /invalid/, [{ name: `..\\${escapedName}`, flags: 0 }]],
    ['a drive letter', /absolute/, [{ name: `c:${escapedName}` }]],
    ['a NUL in a name', /control/, [{ name: 'a\0b' }]],
    ['a newline in a name', /control/, [{ name: 'a\nb' }]],
    ['a control byte in an old name', /control/, [{ name: 'a\u001bb', flags: 0 }]],
    ['a C1 control in a name', /control/, [{ name: 'a\u009bb' }]],
    ['a name that is not UTF-8', /UTF-8/, [{ name: Buffer.from([0x61, 0xff]) }]],
    ['a name of 300 bytes', /too long/, [{ name: 'n'.repeat(300) }]],
    ['no name', /no name/, [{ name: '' }]],
    [
      'a second name that leads out',
      /\.\.\/p2p/,
      [{ name: 'fine', flags: 0, extra: unicodePath('fine', escape) }],
    ],
    [
      'a second name with an escape sequence',
      /control/,
      [{ name: 'fine', flags: 0, extra: unicodePath('fine', 'a\u001b[2Jb') }],
    ],
    ['a file twice', /twice/, [file, file]],
    ['a file that is also a directory', /file and a directory/, [file, { name: 'ok/below' }]],
    ['metadata.json twice', /twice/, [{ name: 'metadata.json', content: '{}' }]],
    ['an encrypted file', /encrypted/, [{ name: 'x', content: 'x', flags: 0x801 }]],
    ['an unknown compression', /compression/, [{ name: 'x', content: 'x', method: 14 }]],
    ['too little content', /not enough/, [{ name: 'x', content: 'x', size: 9 }]],
    ['too much content', /too many/, [{ name: 'x', content: 'xxxx', size: 1 }]],
    ['other content', /CRC/, [{ name: 'x', content: 'x', data: deflateRawSync(Buffer.from('y')) }]],
    ['a broken deflate', /invalid/, [{ name: 'x', content: 'x', data: Buffer.alloc(9, 7) }]],
    ['a wrong CRC', /CRC/, [{ name: 'x', content: 'x', crc: 1 }]],
    ['data beyond the end', /./, [{ name: 'x', offset: 0x7fffffff }]],
  ];
  const damaged: [string, RegExp, Buffer][] = [
    ['text', /not a zip/, Buffer.from('no zip')],
    ['a cut end', /truncated/, zipOf(honest).subarray(0, -30)],
    ['more entries than there are', /./, zipOf(honest, { count: honest.length + 1 })],
  ];
  return [
    ...entries.map(([what, reason, hostile]): [string, RegExp, Buffer] => [
      what,
      reason,
      zipOf([...honest, ...hostile]),
    ]),
    ...damaged,
  ].map(([what, reason, bytes]) => ({ name: `${what}.zip`, reason, bytes }));
}
