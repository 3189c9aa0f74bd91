import { createHash } from 'node:crypto';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { copyVerified, isIntact } from '../../../lib/content/copy-verified.ts';
import type { Update } from '../../../lib/announcement/update.ts';
import { temporaryDirectory } from '../../support/run/temporary.ts';

const content = Buffer.alloc(40_000, 'p2p');

const announced: Update = {
  payload: '',
  channel: 'default',
  version: 1,
  kind: 'file',
  name: 'x.bin',
  length: content.length,
  infoHash: 'a'.repeat(40),
  sha256: createHash('sha256').update(content).digest('hex'),
  pieceLength: 16_384,
  pieces: new Uint8Array(),
  created: 1,
  notBefore: 0,
  expires: null,
  rerun: false,
  noop: false,
  target: '',
  metainfo: null,
};
const sha1 = (bytes: Buffer): Buffer => createHash('sha1').update(bytes).digest();
const bare: Update = {
  ...announced,
  sha256: null,
  pieces: Buffer.concat([0, 16_384, 32_768].map((at) => sha1(content.subarray(at, at + 16_384)))),
};

describe('copyVerified', () => {
  it.each([
    ['an announcement', announced],
    ['a bare torrent', bare],
  ])('copies the content that %s announces, unreadable for other users', async (_, update) => {
    const directory = temporaryDirectory();
    const [source, target] = [join(directory, 'source'), join(directory, 'target')];
    writeFileSync(source, content);
    expect(await copyVerified(source, target, update)).toBeUndefined();
    expect(readFileSync(target).equals(content)).toBe(true);
    expect(statSync(target).mode & 0o777).toBe(0o600);
    expect(await isIntact(target, update)).toBe(true);
  });

  const changed = Buffer.from(content);
  changed.writeUInt8(changed.readUInt8(39_999) ^ 1, 39_999);

  it.each<[string, (source: string) => void, RegExp]>([
    ['is missing', () => undefined, /no such file/],
    [
      'has one bit changed',
      (source) => {
        writeFileSync(source, changed);
      },
      /not the announced one/,
    ],
    [
      'is shorter',
      (source) => {
        writeFileSync(source, content.subarray(1));
      },
      /39999 bytes/,
    ],
    [
      'is longer',
      (source) => {
        writeFileSync(source, Buffer.alloc(40_001));
      },
      /40001 bytes/,
    ],
    [
      'is a link to the right content',
      (source) => {
        writeFileSync(`${source}.real`, content);
        symlinkSync(`${source}.real`, source);
      },
      /not a regular file/,
    ],
    [
      'is a FIFO',
      (source) => {
        execFileSync('mkfifo', [source]);
      },
      /not a regular file/,
    ],
    [
      'is a directory',
      (source) => {
        mkdirSync(source);
      },
      /not a regular file/,
    ],
    [
      'is a device',
      (source) => {
        symlinkSync('/dev/zero', source);
      },
      /not a regular file/,
    ],
  ])('returns the reason when the source %s', async (_, make, reason) => {
    for (const update of [announced, bare]) {
      const directory = temporaryDirectory();
      const source = join(directory, 'source');
      make(source);
      const mismatch = await copyVerified(source, join(directory, 'target'), update);
      expect(mismatch?.reason).toMatch(reason);
      expect(mismatch?.isIncomplete).toBe(/no such file|39999 bytes/.test(mismatch?.reason ?? ''));
    }
  });

  it('never overwrites an existing target, and follows no link there', async () => {
    const directory = temporaryDirectory();
    const source = join(directory, 'source');
    writeFileSync(source, content);
    symlinkSync(join(directory, 'elsewhere'), join(directory, 'target'));
    await expect(copyVerified(source, join(directory, 'target'), announced)).rejects.toThrow(
      /EEXIST/,
    );
    expect(existsSync(join(directory, 'elsewhere'))).toBe(false);
  });
});

describe('isIntact', () => {
  it('is false for a copy that was cut, changed or removed', async () => {
    const directory = temporaryDirectory();
    const file = join(directory, 'copy');
    expect(await isIntact(file, announced)).toBe(false);
    writeFileSync(file, content.subarray(0, 100));
    expect(await isIntact(file, announced)).toBe(false);
    writeFileSync(file, Buffer.alloc(content.length));
    expect(await isIntact(file, announced)).toBe(false);
  });
});
