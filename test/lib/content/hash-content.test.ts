import { execFileSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { appendFileSync, chmodSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import createTorrent from 'create-torrent';
import { Readable } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { describeContent } from '../../../lib/content/hash-content.ts';
import { buildMetainfo, contentFileName } from '../../../lib/announcement/metainfo.ts';
import { temporaryDirectory } from '../../support/run/temporary.ts';

const pieceLength = 16_384;

function sha1OfPieces(bytes: Buffer): Buffer {
  const starts = Array.from({ length: Math.ceil(bytes.length / pieceLength) }, (_, i) => i);
  return Buffer.concat(
    starts.map((i) => {
      const piece = bytes.subarray(i * pieceLength, (i + 1) * pieceLength);
      return createHash('sha1').update(piece).digest();
    }),
  );
}

function fileOf(bytes: Buffer): string {
  const path = join(temporaryDirectory(), 'what ever.bin');
  writeFileSync(path, bytes);
  return path;
}

/** The info dictionary in a .torrent, as bytes, for one whose last key is `info`. */
function infoIn(torrent: Uint8Array): string {
  const text = Buffer.from(torrent).toString('latin1');
  return text.slice(text.indexOf('4:infod'), -1);
}

describe('describeContent', () => {
  it.each([
    ['one byte', 1],
    ['one piece exactly', pieceLength],
    ['one piece and a byte', pieceLength + 1],
    ['more than one read', 3 * 2 ** 20 + 5],
  ])('hashes a file of %s as a whole and in pieces', async (_, length) => {
    const bytes = randomBytes(length);
    const described = await describeContent(fileOf(bytes), { name: 'x', pieceLength });
    expect(described).toMatchObject({
      length,
      pieceLength,
      sha256: createHash('sha256').update(bytes).digest('hex'),
    });
    expect(Buffer.from(described.pieces).equals(sha1OfPieces(bytes))).toBe(true);
  });

  it('gives the info dictionary and the info hash that create-torrent gives under the same name', async () => {
    const bytes = randomBytes(100_000);
    const described = await describeContent(fileOf(bytes), { name: 'site.pp', pieceLength });
    const content = { ...described, name: 'site.pp' };
    const torrent = await new Promise<Uint8Array>((resolve, reject) => {
      const options = { name: contentFileName(content), pieceLength, announceList: [] };
      createTorrent(Readable.from([bytes]), options, (error, made) => {
        if (made === undefined) reject(error ?? new Error('nothing made'));
        else resolve(made);
      });
    });
    const info = infoIn(torrent);
    expect(infoIn(buildMetainfo(content))).toBe(info);
    const hash = createHash('sha1').update(Buffer.from(info.slice('4:info'.length), 'latin1'));
    expect(described.infoHash).toBe(hash.digest('hex'));
  });

  it('reports its progress up to the end', async () => {
    const told: [number, number][] = [];
    const length = 2.5 * 2 ** 20;
    await describeContent(fileOf(Buffer.alloc(length, 7)), {
      name: 'x',
      pieceLength,
      onProgress: (done, total) => told.push([done, total]),
    });
    expect(told.length).toBeGreaterThan(1);
    expect(told.at(-1)).toEqual([length, length]);
    expect(told.map(([done]) => done)).toEqual(told.map(([done]) => done).sort((a, b) => a - b));
  });
});

describe('describeContent refuses', () => {
  const refused = (path: string) => describeContent(path, { name: 'x', pieceLength });

  it('a file that is not there', async () => {
    const path = join(temporaryDirectory(), 'none');
    await expect(refused(path)).rejects.toMatchObject({
      code: 'usage',
      message: `cannot read ${path}`,
      hint: 'there is no such file',
    });
  });

  it('a directory', async () => {
    await expect(refused(temporaryDirectory())).rejects.toMatchObject({ code: 'usage' });
  });

  it('a FIFO, without waiting for its writer', async () => {
    const path = join(temporaryDirectory(), 'fifo');
    execFileSync('mkfifo', [path]);
    await expect(refused(path)).rejects.toMatchObject({ code: 'usage' });
  });

  it('an empty file, which Transmission would refuse', async () => {
    await expect(refused(fileOf(Buffer.alloc(0)))).rejects.toMatchObject({ code: 'malformed' });
  });

  it('a file that may not be read', () => {
    const path = join(temporaryDirectory(), 'secret');
    writeFileSync(path, 'x');
    chmodSync(path, 0o000);
    // Root can read every file, so the reader is a process without root's capabilities.
    const module = join(import.meta.dirname, '../../../lib/content/hash-content.ts');
    const script = `import(process.argv[1])
      .then(({ describeContent }) => describeContent(process.argv[2], { name: 'a', pieceLength: 16384 }))
      .catch(({ code }) => console.log(code));`;
    const without = ['--inh-caps=-all', '--bounding-set=-all'];
    const reader = process.geteuid?.() === 0 ? ['setpriv', ...without, '--'] : ['env'];
    const argv = [process.execPath, '--import', 'tsx', '-e', script, module, path];
    const env = { ...process.env, TSX_DISABLE_CACHE: '1' };
    const [command = '', ...args] = [...reader, ...argv];
    expect(execFileSync(command, args, { env, encoding: 'utf8' })).toBe('usage\n');
  });

  it.each<[string, (path: string) => void]>([
    [
      'grows',
      (path) => {
        appendFileSync(path, 'more');
      },
    ],
    [
      'shrinks',
      (path) => {
        writeFileSync(path, 'less');
      },
    ],
    [
      'is rewritten at the same length',
      (path) => {
        writeFileSync(path, Buffer.alloc(3 * 2 ** 20, 9));
      },
    ],
  ])('a file that %s while it is read, and takes it once it is at rest', async (_, change) => {
    const path = fileOf(Buffer.alloc(3 * 2 ** 20, 7));
    utimesSync(path, 1, 1);
    let isChanged = false;
    const onProgress = () => {
      if (!isChanged) change(path);
      isChanged = true;
    };
    const reading = describeContent(path, { name: 'x', pieceLength, onProgress });
    await expect(reading).rejects.toMatchObject({ code: 'try-later' });
    await expect(refused(path)).resolves.toMatchObject({ pieceLength });
  });
});
