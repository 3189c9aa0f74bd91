import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { beforeEach, describe, expect, test } from 'vitest';
import { detectKind } from '../../../lib/content/detect-kind.ts';
import { parseMetadata } from '../../../lib/content/module-metadata.ts';
import { type TarEntry, tarOf, zipOf } from '../../support/run/archives.ts';
import { temporaryDirectory } from '../../support/run/temporary.ts';
import { writeTree } from '../../support/run/tree.ts';

let dir: string;
beforeEach(() => {
  dir = temporaryDirectory();
});

const rest = { author: 'acme', license: 'Apache-2.0', source: '', dependencies: [] };
const metadata = (name: unknown = 'acme/hello', version: unknown = '1.0.0'): string =>
  JSON.stringify({ ...rest, name, version });
const link: TarEntry = { name: 'link', type: 'SymbolicLink', linkpath: '/etc' };

describe('detectKind', () => {
  const module = { kind: 'module', channel: 'acme-hello' };
  test.each<[string, Buffer, object]>([
    ['site.pp', Buffer.from('notice(1)'), { kind: 'manifest' }],
    ['firmware.bin', Buffer.from([1, 2, 3]), { kind: 'file' }],
    ['site.pp.txt', Buffer.from('notice(1)'), { kind: 'file' }],
    ['m.tar.gz', gzipSync(tarOf([{ name: 'metadata.json', content: metadata() }])), module],
    ['m.tgz', gzipSync(tarOf([{ name: './metadata.json', content: metadata() }])), module],
    ['m.tar', tarOf([{ name: 'hello/metadata.json', content: metadata('Acme-hello') }]), module],
    ['deep.tar', tarOf([{ name: 'a/b/metadata.json', content: metadata() }]), { kind: 'file' }],
    ['data.tar.gz', gzipSync(tarOf([{ name: 'data', content: 'x' }])), { kind: 'file' }],
    // Delivered as it is, a backup may hold links and absolute names.
    ['backup.tar.gz', gzipSync(tarOf([link, { name: '/abs', content: 'x' }])), { kind: 'file' }],
    [
      'env.zip',
      zipOf([{ name: 'manifests/site.pp' }]),
      { kind: 'environment', isDirectory: false },
    ],
    [
      'top.zip',
      zipOf([{ name: 'site/manifests/a.pp' }, { name: '__MACOSX/site/._a' }]),
      { kind: 'environment', isDirectory: false },
    ],
    ['photos.zip', zipOf([{ name: 'a.jpg', content: 'x' }]), { kind: 'file' }],
  ])('detects the kind of %s', async (name, bytes, expected) => {
    writeFileSync(join(dir, name), bytes);
    expect(await detectKind(join(dir, name))).toMatchObject(expected);
  });

  test('takes a directory with manifests/ for an environment, and refuses any other with a hint', async () => {
    writeTree(join(dir, 'env'), { 'manifests/site.pp': '' });
    expect(await detectKind(join(dir, 'env'))).toEqual({ kind: 'environment', isDirectory: true });
    writeTree(join(dir, 'other'), { manifests: 'a file' });
    await expect(detectKind(join(dir, 'other'))).rejects.toMatchObject({
      code: 'malformed',
      hint: expect.stringContaining('manifests/') as string,
    });
  });

  test.each<[string, Buffer, RegExp]>([
    ['broken.tar.gz', Buffer.from('not gzip, not tar'), /too early/],
    ['broken.zip', Buffer.from('not zip'), /zip/],
    ['link.tar', tarOf([{ name: 'metadata.json', content: metadata() }, link]), /symbolic link/],
    ['name.tar', tarOf([{ name: 'metadata.json', content: metadata('hello') }]), /"name"/],
    ['version.tar', tarOf([{ name: 'metadata.json', content: metadata('a/b', '1') }]), /"version"/],
    ['json.tar', tarOf([{ name: 'metadata.json', content: '{' }]), /not JSON/],
    ['long.tar', tarOf([{ name: 'metadata.json', content: ' '.repeat(2 ** 20 + 1) }]), /too long/],
    ['escape.zip', zipOf([{ name: 'manifests/a.pp' }, { name: 'l', mode: 0o120777 }]), /link/],
  ])('refuses %s, which nodes would refuse', async (name, bytes, message) => {
    writeFileSync(join(dir, name), bytes);
    await expect(detectKind(join(dir, name))).rejects.toThrow(message);
    await expect(detectKind(join(dir, name))).rejects.toMatchObject({ code: 'malformed' });
  });

  test("refuses a module's source, which is no environment", async () => {
    const source = { 'metadata.json': metadata(), 'manifests/init.pp': '' };
    writeTree(join(dir, 'hello'), source);
    await expect(detectKind(join(dir, 'hello'))).rejects.toThrow(/source of a module/);
    writeFileSync(
      join(dir, 'hello.zip'),
      zipOf(Object.entries(source).map(([name, content]) => ({ name: `hello/${name}`, content }))),
    );
    await expect(detectKind(join(dir, 'hello.zip'))).rejects.toThrow(/source of a module/);
    // A control repository may have a metadata.json for its tools.
    writeTree(join(dir, 'hello'), { 'environment.conf': '' });
    expect(await detectKind(join(dir, 'hello'))).toMatchObject({ kind: 'environment' });
  });

  test('refuses a FIFO without waiting for its writer', async () => {
    execFileSync('mkfifo', [join(dir, 'pipe.pp')]);
    await expect(detectKind(join(dir, 'pipe.pp'))).rejects.toMatchObject({ code: 'malformed' });
  });

  test('reports a missing file as a file system error', async () => {
    await expect(detectKind(join(dir, 'none'))).rejects.toMatchObject({ code: 'ENOENT' });
  });
});

describe('parseMetadata', () => {
  test.each([
    ['acme/hello', { forgeName: 'acme-hello', name: 'hello' }],
    ['acme-hello', { forgeName: 'acme-hello', name: 'hello' }],
    ['Acme1/my_mod2', { forgeName: 'Acme1-my_mod2', name: 'my_mod2' }],
  ])('reads the name %s', (name, expected) => {
    expect(parseMetadata(metadata(name, '1.2.3-rc.1'))).toEqual({
      ...expected,
      version: '1.2.3-rc.1',
    });
  });

  test.each([
    ['hello', '1.0.0'],
    ['acme/Hello', '1.0.0'],
    ['acme/hello/more', '1.0.0'],
    ['acme-hello-more', '1.0.0'],
    ['acme/../hello', '1.0.0'],
    ['acme/hello\n', '1.0.0'],
    [`acme/${'h'.repeat(100)}`, '1.0.0'],
    [7, '1.0.0'],
    [['acme/hello'], '1.0.0'],
    ['acme/hello', '1.0'],
    ['acme/hello', '01.0.0'],
    ['acme/hello', '1.0.0/../..'],
    ['acme/hello', '1.0.0\n'],
    ['acme/hello', 1],
    ['acme/hello', null],
  ])('refuses name %j with version %j', (name, version) => {
    expect(() => parseMetadata(metadata(name, version))).toThrow(/metadata\.json/);
  });

  test.each(['author', 'license', 'source', 'dependencies'])(
    'refuses a module without %s, which Puppet would not load',
    (key) => {
      const text = JSON.stringify({ ...rest, name: 'acme/hello', version: '1.0.0', [key]: null });
      expect(() => parseMetadata(text)).toThrow(`no "${key}"`);
    },
  );

  test.each(['', 'null', '[]', '"acme/hello"', '7'])('refuses %j', (text) => {
    expect(() => parseMetadata(text)).toThrow(/metadata\.json/);
  });
});
