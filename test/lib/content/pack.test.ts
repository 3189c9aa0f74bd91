import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  linkSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { beforeEach, describe, expect, test } from 'vitest';
import { unpackArchive } from '../../../lib/content/archive.ts';
import { packDirectory } from '../../../lib/content/pack.ts';
import { temporaryDirectory } from '../../support/run/temporary.ts';
import { readTree, writeTree } from '../../support/run/tree.ts';

let dir: string;
beforeEach(() => {
  dir = temporaryDirectory();
});

async function pack(directory: string, name = 'out.tar.gz'): Promise<Buffer> {
  await packDirectory(directory, join(dir, name));
  return readFileSync(join(dir, name));
}

const longName = 'a long name '.repeat(20);
const files = {
  'manifests/site.pp': 'include web\n',
  'data/common.yaml': 'a: 1\n',
  'with space/ünïcode ☃.txt': 'snow',
  [`deep/${'directory-name/'.repeat(12)}${longName}`]: 'long',
  'empty/': '',
  'empty-file': '',
  large: 'x'.repeat(300_000),
  '@at': 'not an archive to include',
  '-dash': 'not an option',
};

describe('packDirectory', () => {
  test('packs the same tree to the same bytes, independent of the time and order in which it was made', async () => {
    writeTree(join(dir, 'one'), files);
    writeTree(join(dir, 'two'), Object.fromEntries(Object.entries(files).reverse()));
    for (const path of readdirSync(join(dir, 'two'), { recursive: true }) as string[])
      utimesSync(join(dir, 'two', path), 1_000_000, 1_000_000);
    // Neither the umask nor group bits count, nor the .git directory beside the files.
    chmodSync(join(dir, 'two/large'), 0o600);
    writeTree(join(dir, 'two'), { '.git/HEAD': 'ref: refs/heads/main\n' });

    const one = await pack(join(dir, 'one'), '1.tar.gz');
    const two = await pack(join(dir, 'two'), '2.tar.gz');
    expect(one.equals(two)).toBe(true);
  });

  test('packs another content, name or executable bit to other bytes', async () => {
    const packed = new Set<string>();
    const variants: Record<string, string>[] = [
      { a: '1' },
      { a: '2' },
      { b: '1' },
      { a: '1', 'e/': '' },
    ];
    for (const [index, variant] of variants.entries()) {
      writeTree(join(dir, `v${index}`), variant);
      packed.add((await pack(join(dir, `v${index}`), `${index}.tar.gz`)).toString('base64'));
    }
    chmodSync(join(dir, 'v0/a'), 0o755);
    packed.add((await pack(join(dir, 'v0'), 'x.tar.gz')).toString('base64'));
    expect(packed.size).toBe(5);
  });

  test('makes an archive that unpackArchive and tar(1) unpack to the same tree', async () => {
    const source = join(dir, 'source');
    writeTree(source, files);
    chmodSync(join(source, '-dash'), 0o755);
    await pack(source);
    await unpackArchive(join(dir, 'out.tar.gz'), join(dir, 'ours'));
    mkdirSync(join(dir, 'theirs'));
    execFileSync('tar', ['-xpf', join(dir, 'out.tar.gz'), '-C', join(dir, 'theirs')]);
    expect(readTree(join(dir, 'ours'))).toEqual(readTree(join(dir, 'theirs')));
    const tree = readTree(join(dir, 'ours'));
    expect(tree['-dash']).toBe('755 not an option');
    expect(tree['empty']).toBe('755 directory');
    for (const [path, content] of Object.entries(files))
      if (!path.endsWith('/')) expect(tree[path]?.slice(4)).toBe(content);
  });

  test('stores neither times nor owners', async () => {
    writeTree(join(dir, 'source'), { a: '1', [longName]: '2' });
    const bytes = await pack(join(dir, 'source'));
    expect(bytes.readUInt32LE(4)).toBe(0); // MTIME, RFC 1952
    expect(bytes[3]).toBe(0); // FLG: no name
    const listing = execFileSync(
      'tar',
      ['--utc', '--numeric-owner', '-tvf', join(dir, 'out.tar.gz')],
      {
        encoding: 'utf8',
      },
    );
    for (const line of listing.trim().split('\n'))
      expect(line).toMatch(/^-rw-r--r-- 0\/0 +1 1970-01-01 00:00 /);
    expect(gunzipSync(bytes).includes('root')).toBe(false);
  });

  test('packs a file with two names twice, not as a link', async () => {
    writeTree(join(dir, 'source'), { a: 'same' });
    linkSync(join(dir, 'source/a'), join(dir, 'source/b'));
    await pack(join(dir, 'source'));
    await unpackArchive(join(dir, 'out.tar.gz'), join(dir, 'ours'));
    expect(readTree(join(dir, 'ours'))).toEqual({ a: '644 same', b: '644 same' });
  });

  const socket = (path: string): Promise<void> =>
    new Promise((resolve) => {
      const server = createServer().listen(path, () => {
        // Without close(), which would unlink the name.
        server.unref();
        resolve();
      });
    });
  test.each<[string, RegExp, (path: string) => unknown]>([
    [
      'a symbolic link',
      /"sub\/bad" is a symbolic link/,
      (path) => {
        symlinkSync('/etc', path);
      },
    ],
    [
      'a dangling link',
      /"sub\/bad" is a symbolic link/,
      (path) => {
        symlinkSync('none', path);
      },
    ],
    ['a FIFO', /"sub\/bad" is a special file/, (path) => execFileSync('mkfifo', [path])],
    ['a socket', /"sub\/bad" is a special file/, socket],
    [
      'a newline in a name',
      /"sub\/bad\\nname" has control/,
      (path) => {
        writeFileSync(`${path}\nname`, '');
      },
    ],
    [
      'a backslash in a name',
      /"sub\/bad\\\\name" has a backslash/,
      (path) => {
        writeFileSync(`${path}\\name`, '');
      },
    ],
  ])('refuses %s, naming it, and leaves nothing behind', async (_, message, make) => {
    writeTree(join(dir, 'source'), { a: '1', 'sub/b': '2' });
    await make(join(dir, 'source/sub/bad'));
    await expect(pack(join(dir, 'source'))).rejects.toThrow(message);
    await expect(pack(join(dir, 'source'))).rejects.toMatchObject({ code: 'malformed' });
    expect(readdirSync(dir)).toEqual(['source']);
  });

  test('refuses more than a node would unpack', async () => {
    writeTree(join(dir, 'source'), { 'a/b': '1234' });
    const target = join(dir, 'out.tar.gz');
    const limits = { maxEntries: 2, maxBytes: 4 };
    await packDirectory(join(dir, 'source'), target, limits);
    rmSync(target);
    for (const less of [{ maxEntries: 1 }, { maxBytes: 3 }]) {
      const packing = packDirectory(join(dir, 'source'), target, { ...limits, ...less });
      await expect(packing).rejects.toThrow(/holds more than/);
    }
    expect(readdirSync(dir)).toEqual(['source']);
  });

  test('does not overwrite a file', async () => {
    writeTree(dir, { 'source/a': '1', 'out.tar.gz': 'precious' });
    await expect(pack(join(dir, 'source'))).rejects.toMatchObject({ code: 'EEXIST' });
    expect(readFileSync(join(dir, 'out.tar.gz'), 'utf8')).toBe('precious');
  });
});
