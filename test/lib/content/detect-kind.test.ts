import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync, gzipSync } from 'node:zlib';
import { beforeEach, describe, expect, test } from 'vitest';
import type { ContentKind } from '../../../lib/announcement/fields.ts';
import { detectKind, plainKind, UnclearKind } from '../../../lib/content/detect-kind.ts';
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

const init = { name: 'manifests/init.pp', content: 'class hello { }\n' };
const module = gzipSync(tarOf([{ name: 'hello/metadata.json', content: metadata() }, init]));
const site = { name: 'site/manifests/site.pp', content: 'notice(1)\n' };

describe('detectKind', () => {
  test.each<[string, Buffer, object]>([
    ['site.pp', Buffer.from('notice(1)'), { kind: 'manifest', why: 'its name ends in .pp' }],
    ['firmware.bin', Buffer.from([1, 2, 3]), { kind: 'file' }],
    ['disk.img.xz', Buffer.from('\xfd7zXZ\0', 'latin1'), { kind: 'file' }],
    ['data.tar.gz', gzipSync(tarOf([{ name: 'data', content: 'x' }])), { kind: 'file' }],
    ['data.json.gz', gzipSync('{}'), { kind: 'file' }],
    // Delivered as it is, a backup may hold links and absolute names.
    ['backup.tar.gz', gzipSync(tarOf([link, { name: '/abs', content: 'x' }])), { kind: 'file' }],
    ['photos.zip', zipOf([{ name: 'a.jpg', content: 'x' }]), { kind: 'file' }],
    ['broken.docx', Buffer.from('PK\u0003\u0004 and no more'), { kind: 'file' }],
    ['acme-hello-1.0.0.tar.gz', module, { kind: 'module', channel: 'acme-hello' }],
    ['acme-hello-1.0.0.tgz', module, { kind: 'module' }],
    ['Acme-Hello-1.0.0.TAR', gunzipSync(module), { kind: 'module' }],
    [
      'acme-hello-1.0.0.zip',
      zipOf([{ name: 'metadata.json', content: metadata() }]),
      { kind: 'module' },
    ],
  ])('takes %s, which is plain, without a word', async (name, bytes, expected) => {
    writeFileSync(join(dir, name), bytes);
    expect(await detectKind(join(dir, name))).toMatchObject({ isDirectory: false, ...expected });
  });

  test.each<[string, Buffer, string[]]>([
    ['SITE.PP', Buffer.from('notice(1)'), ['manifest', 'file']],
    ['site.pp.txt', Buffer.from('notice(1)'), ['manifest', 'file']],
    ['site.pp.gz', gzipSync('notice(1)'), ['file']],
    ['site.pp', module, ['module', 'file']],
    ['acme-hello-2.0.0.tar.gz', module, ['module', 'file']],
    ['hello.tar.gz', module, ['module', 'file']],
    ['hello', module, ['module', 'file']],
    ['hello.zip', zipOf([{ name: 'h/metadata.json', content: metadata() }]), ['module', 'file']],
    ['no-metadata.tgz', tarOf([init]), ['module', 'file']],
    [
      'firmware.tar.gz',
      tarOf([{ name: 'f/metadata.json' }, { name: 'f/lib/facter/a.rb' }]),
      ['module', 'file'],
    ],
    ['deep.tar', tarOf([{ name: 'a/b/metadata.json', content: metadata() }]), ['module', 'file']],
    ['holiday.zip', zipOf([{ name: 'photos/manifests/x.pp' }]), ['environment', 'file']],
    ['environment.tar.gz', gzipSync(tarOf([site])), ['environment', 'file']],
    ['top.zip', zipOf([site, { name: '__MACOSX/site/._a' }]), ['environment', 'file']],
    [
      'conf.tar',
      tarOf([{ name: 'environment.conf', content: 'manifest = a.pp' }, { name: 'a.pp' }]),
      ['environment', 'file'],
    ],
    [
      'two.tar',
      tarOf([{ name: 'a/manifests/x.pp' }, { name: 'b/manifests/x.pp' }]),
      ['environment', 'file'],
    ],
    [
      'loose.tar',
      tarOf([{ name: 'some/where/else/x.pp' }, { name: 'f' }]),
      ['environment', 'file'],
    ],
    ['facts.tar', tarOf([{ name: 'x/lib/facter/a.rb' }]), ['environment', 'file']],
    [
      'both.tar',
      tarOf([{ name: 'metadata.json', content: metadata() }, init, { name: 'modules/x/a' }]),
      ['module', 'environment', 'file'],
    ],
    ['module.tar.xz', Buffer.from('\xfd7zXZ\0', 'latin1'), ['file']],
    ['module.tar.bz2', Buffer.from('BZh9'), ['file']],
    ['module.tar.gz', Buffer.from('BZh9'), ['file']],
    ['module.7z', Buffer.from('7z\xbc\xaf\x27\x1c', 'latin1'), ['file']],
  ])('leaves to a person what %s is', async (name, bytes, kinds) => {
    writeFileSync(join(dir, name), bytes);
    const error: unknown = await detectKind(join(dir, name)).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(UnclearKind);
    expect((error as UnclearKind).kinds.map(({ kind }) => kind)).toEqual(kinds);
    expect(await detectKind(join(dir, name), 'file')).toMatchObject({ kind: 'file' });
    // Root neither, which gets no word with a bare torrent.
    await expect(plainKind(join(dir, name))).rejects.toMatchObject({ code: 'malformed' });
  });

  test.each<[ContentKind, string, Buffer, object]>([
    ['manifest', 'SITE.PP', Buffer.from('notice(1)'), {}],
    [
      'module',
      'm',
      tarOf([{ name: './metadata.json', content: metadata('Acme/hello') }]),
      { channel: 'acme-hello' },
    ],
    ['module', 'a.zip', zipOf([{ name: 'a/b/metadata.json', content: metadata() }]), {}],
    ['environment', 'env.tgz', gzipSync(tarOf([site])), {}],
    ['environment', 'env', zipOf([{ name: 'manifests/site.pp' }]), {}],
    ['file', 'site.pp', Buffer.from('notice(1)'), {}],
    ['file', 'acme-hello-1.0.0.tar.gz', module, {}],
  ])('takes the word for it: %s of %s', async (kind, name, bytes, expected) => {
    writeFileSync(join(dir, name), bytes);
    expect(await detectKind(join(dir, name), kind)).toMatchObject({ kind, ...expected });
  });

  test('takes a directory with manifests/ for an environment, and refuses any other with a hint', async () => {
    writeTree(join(dir, 'env'), { 'manifests/site.pp': '' });
    expect(await detectKind(join(dir, 'env'))).toMatchObject({
      kind: 'environment',
      isDirectory: true,
      why: 'it is a directory with manifests/',
    });
    writeTree(join(dir, 'conf'), { 'environment.conf': 'manifest = a.pp\n', 'a.pp': '' });
    expect(await detectKind(join(dir, 'conf'))).toMatchObject({ kind: 'environment' });
    writeTree(join(dir, 'other'), { manifests: 'a file' });
    for (const kind of [undefined, 'environment', 'module', 'manifest', 'file'] as const)
      await expect(detectKind(join(dir, 'other'), kind)).rejects.toMatchObject({
        code: 'malformed',
      });
    await expect(detectKind(join(dir, 'other'))).rejects.toMatchObject({
      hint: expect.stringContaining('manifests/') as string,
    });
  });

  test.each<[ContentKind, string, Buffer, RegExp]>([
    ['module', 'broken.tar.gz', Buffer.from('not gzip, not tar'), /too early/],
    ['environment', 'broken.zip', Buffer.from('not zip'), /zip/],
    [
      'module',
      'link.tar',
      tarOf([{ name: 'metadata.json', content: metadata() }, link]),
      /symbolic link/,
    ],
    [
      'module',
      'name.tar',
      tarOf([{ name: 'metadata.json', content: metadata('hello') }]),
      /"name"/,
    ],
    [
      'module',
      'version.tar',
      tarOf([{ name: 'metadata.json', content: metadata('a/b', '1') }]),
      /"version"/,
    ],
    ['module', 'json.tar', tarOf([{ name: 'metadata.json', content: '{' }]), /not JSON/],
    [
      'module',
      'long.tar',
      tarOf([{ name: 'metadata.json', content: ' '.repeat(2 ** 20 + 1) }]),
      /too long/,
    ],
    ['module', 'env.tar', tarOf([site]), /no metadata.json/],
    ['module', 'm.tar.xz', Buffer.from('\xfd7zXZ\0', 'latin1'), /compressed with xz/],
    [
      'environment',
      'escape.zip',
      zipOf([{ name: 'manifests/a.pp' }, { name: 'l', mode: 0o120777 }]),
      /link/,
    ],
    [
      'environment',
      'm.tar',
      tarOf([{ name: 'metadata.json', content: metadata() }]),
      /no manifests/,
    ],
    [
      'environment',
      'two.tar',
      tarOf([{ name: 'a/manifests/x.pp' }, { name: 'b/manifests/x.pp' }]),
      /more than one, below "a", "b"/,
    ],
    [
      'environment',
      'v3.tar',
      tarOf([site, { name: 'site/hiera.yaml', content: ':backends: [yaml]' }]),
      /hiera.yaml/,
    ],
    ['manifest', 'site.pp', module, /is compressed with gzip, and no manifest/],
  ])('refuses as %s what nodes would refuse: %s', async (kind, name, bytes, message) => {
    writeFileSync(join(dir, name), bytes);
    await expect(detectKind(join(dir, name), kind)).rejects.toThrow(message);
    await expect(detectKind(join(dir, name), kind)).rejects.toMatchObject({ code: 'malformed' });
  });

  test("asks about a module's source, which has manifests/ and is no environment", async () => {
    writeTree(join(dir, 'hello'), { 'metadata.json': metadata(), 'manifests/init.pp': '' });
    await expect(detectKind(join(dir, 'hello'))).rejects.toThrow(
      /may be a module or an environment/,
    );
    expect(await detectKind(join(dir, 'hello'), 'module')).toMatchObject({
      kind: 'module',
      isDirectory: true,
      channel: 'acme-hello',
    });
    writeTree(join(dir, 'bare'), { 'manifests/init.pp': 'class bare { }' });
    await expect(detectKind(join(dir, 'bare'))).rejects.toThrow(/no metadata.json/);
    // A control repository may have a metadata.json for its tools.
    writeTree(join(dir, 'hello'), { 'environment.conf': '' });
    expect(await detectKind(join(dir, 'hello'))).toMatchObject({ kind: 'environment' });
  });

  test('finds the metadata.json of a module behind those of its fixtures', async () => {
    const fixtures = Array.from({ length: 40 }, (_, i) => ({
      name: `hello/spec/fixtures/modules/m${i}/metadata.json`,
      content: metadata('x/y'),
    }));
    const entries = [...fixtures, { name: 'hello/metadata.json', content: metadata() }];
    writeFileSync(join(dir, 'acme-hello-1.0.0.tar'), tarOf(entries));
    expect(await detectKind(join(dir, 'acme-hello-1.0.0.tar'))).toMatchObject({ kind: 'module' });
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

  test.each([
    ['\ufeff{}', /byte-order mark/],
    ['\ufffd\ufffd{\0', /UTF-16/],
    ['', /it is empty/],
    ['{\n"a": "b, }",\n"c": [1,\n]}', /line 3 has a comma after the last item/],
    ['{"a": 1,}', /line 1 has a comma/],
    ['{\n// name\n"a": 1}', /line 2 has a comment/],
    ["{\n'a': 1}", /line 2 has a single quote/],
    ['{"a": "http://x/#y",\n"b" 1}', /does not parse$/],
  ])('says why %j is not JSON', (text, message) => {
    expect(() => parseMetadata(text)).toThrow(message);
  });

  test.each(['', 'null', '[]', '"acme/hello"', '7'])('refuses %j', (text) => {
    expect(() => parseMetadata(text)).toThrow(/metadata\.json/);
  });
});
