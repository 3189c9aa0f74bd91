import { mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { mustRun } from '../support/run/command.ts';

/** Damages of a file: a name, and the action that makes it. */
export const damages: readonly [name: string, damage: (file: string) => void][] = [
  ['a flipped format number', flipAt((bytes) => bytes.indexOf(' ') + 1)],
  ['a flipped digest', flipAt((bytes) => bytes.indexOf('\n') - 1)],
  ['a flipped last byte', flipAt((bytes) => bytes.length - 2)],
  [
    'emptied',
    (file) => {
      writeFileSync(file, '');
    },
  ],
  [
    'cut in half',
    (file) => {
      writeFileSync(file, halfOf(file));
    },
  ],
  [
    'zeros',
    (file) => {
      writeFileSync(file, Buffer.alloc(readFileSync(file).length));
    },
  ],
  ['a directory', replaceBy((file) => mkdirSync(`${file}/sub`, { recursive: true }))],
  [
    'a link',
    replaceBy((file) => {
      symlinkSync('/etc/passwd', file);
    }),
  ],
  ['a pipe', replaceBy((file) => mustRun(['mkfifo', file]))],
];

function flipAt(where: (bytes: Buffer) => number): (file: string) => void {
  return (file) => {
    const bytes = readFileSync(file);
    const index = Math.max(0, where(bytes));
    bytes.writeUInt8(bytes.readUInt8(index) ^ 2, index);
    writeFileSync(file, bytes);
  };
}

function halfOf(file: string): Buffer {
  const bytes = readFileSync(file);
  return bytes.subarray(0, bytes.length >> 1);
}

function replaceBy(make: (file: string) => unknown): (file: string) => void {
  return (file) => {
    rmSync(file);
    make(file);
  };
}

/** Every single byte of a file flipped, one at a time, of the format number every bit; then cut at every length. */
export function* everyDamageOf(bytes: Buffer): Generator<[what: string, damaged: Buffer]> {
  const headerEnd = 'p2p-update-record 1 '.length;
  for (let index = 0; index < bytes.length; index += 1) {
    const bits = index < headerEnd ? [1, 2, 4, 8, 16, 32, 64, 128] : [1 << (index % 8)];
    for (const bit of bits) {
      const damaged = Buffer.from(bytes);
      damaged.writeUInt8(damaged.readUInt8(index) ^ bit, index);
      yield [`bit ${bit} of byte ${index}`, damaged];
    }
  }
  for (let length = 0; length < bytes.length; length += 1)
    yield [`cut to ${length} bytes`, bytes.subarray(0, length)];
}
