import { existsSync, mkdirSync, readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { unpackArchive } from '../../lib/content/archive.ts';
import { detectKind } from '../../lib/content/detect-kind.ts';
import { UpdateError } from '../../lib/errors.ts';
import { makeApplySide } from '../support/fleet/apply-side.ts';
import { paxRecord, tarOf, zipOf, type TarEntry } from '../support/run/archives.ts';
import { escapedName, honestEntries, hostileArchives } from '../support/hostile/archives.ts';
import { temporaryDirectory } from '../support/run/temporary.ts';
import { readTree } from '../support/run/tree.ts';
import { runSync } from '../support/run/command.ts';

// Zip slip, links, hard links, devices, set-id bits: refused before anything is written outside staging.

/** Everything below a directory but what the apply side records, and that it is plain. */
function readNode(directory: string): Record<string, string> {
  for (const entry of readdirSync(directory, { recursive: true, withFileTypes: true }))
    expect(entry.isFile() || entry.isDirectory(), entry.name).toBe(true);
  return Object.fromEntries(
    Object.entries(readTree(directory)).filter(
      ([path]) => !/apply\/(outcomes|complete)\/./.test(path),
    ),
  );
}

const kindOf = (name: string): 'module' | 'environment' =>
  name.endsWith('.zip') ? 'environment' : 'module';

test('the corpus has at least 60 archives, tar and zip', () => {
  const isZip = ({ name }: { name: string }): boolean => name.endsWith('.zip');
  expect(hostileArchives.filter(isZip).length).toBeGreaterThanOrEqual(30);
  expect(hostileArchives.filter((archive) => !isZip(archive)).length).toBeGreaterThanOrEqual(60);
  expect(new Set(hostileArchives.map(({ name }) => name)).size).toBe(hostileArchives.length);
});

describe('a signed update with a hostile archive', () => {
  test.each(hostileArchives)(
    'is given up, and leaves the node as it was: $name',
    async ({ name, reason, bytes }) => {
      const directory = temporaryDirectory();
      const node = makeApplySide(join(directory, 'node'));
      await node.apply();
      const ending = /\.(tar|tar\.gz|zip)$/.exec(name)?.[0] ?? '';
      const update = node.receive({ kind: kindOf(name), name: `hostile${ending}` }, bytes);
      const before = readNode(directory);
      const events = await node.apply();
      expect(readNode(directory)).toEqual(before);
      expect(node.outcomeOf(update)).toMatchObject({ state: 'POISONED', tries: 0 });
      expect(node.outcomeOf(update)?.reason).toMatch(reason);
      expect(events.filter(({ decision }) => decision === 'poisoned')).toHaveLength(1);
      // Nor is it taken up again.
      expect(await node.apply()).toEqual([]);
      expect(readNode(directory)).toEqual(before);
      for (const place of ['/', '/tmp']) expect(existsSync(join(place, escapedName))).toBe(false);
    },
  );

  test.each([
    ['module.tar', tarOf(honestEntries)],
    ['environment.zip', zipOf(honestEntries)],
  ])('reaches Puppet when it is the same without the fault: %s', async (name, bytes) => {
    const directory = temporaryDirectory();
    const node = makeApplySide(directory);
    node.receive({ kind: kindOf(name), name }, bytes);
    await node.apply();
    expect(existsSync(join(directory, 'etc/puppet-ran'))).toBe(true);
  });
});

test('submit refuses each hostile archive, with a hint', async () => {
  const directory = temporaryDirectory();
  for (const { name, reason, bytes } of hostileArchives) {
    const path = join(directory, name);
    writeFileSync(path, bytes);
    const error: unknown = await detectKind(path, kindOf(name)).catch((thrown: unknown) => thrown);
    expect(error, name).toBeInstanceOf(UpdateError);
    expect(error, name).toMatchObject({ code: 'malformed' });
    expect((error as UpdateError).message, name).toMatch(reason);
    expect((error as UpdateError).hint, name).toMatch(/^pack it again/);
  }
});

test('no system call creates or changes anything before an archive was checked as a whole', () => {
  const directory = temporaryDirectory();
  mkdirSync(join(directory, 'archives'));
  mkdirSync(join(directory, 'out'));
  const place = (name: string, bytes: Buffer): void => {
    writeFileSync(join(directory, 'archives', name), bytes);
  };
  // The honest ones come first, so that code which is loaded on demand is there.
  place('0 honest.tar', tarOf(honestEntries));
  place('0 honest.zip', zipOf(honestEntries));
  for (const { name, bytes } of hostileArchives) place(name, bytes);
  const trace = join(directory, 'trace');
  const script = join(import.meta.dirname, 'unpack-traced.ts');
  const calls =
    'access,faccessat,faccessat2,open,openat,openat2,creat,mkdir,mkdirat,mknod,mknodat,symlink,symlinkat,' +
    'link,linkat,rename,renameat,renameat2,unlink,unlinkat,rmdir,truncate,ftruncate,chmod,fchmod,' +
    'fchmodat,chown,fchown,lchown,fchownat,setxattr,lsetxattr,fsetxattr,utimensat';
  const { status, stderr } = runSync([
    ...['strace', '-f', '-qq', '--seccomp-bpf', '-s', '4096', '-o', trace, '-e', `trace=${calls}`],
    ...[process.execPath, '--import', 'tsx', script, directory],
  ]);
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });

  const runs = readFileSync(trace, 'utf8').split('/marker/begin ').slice(1);
  expect(runs).toHaveLength(hostileArchives.length + 2);
  for (const run of runs) {
    const [first = '', ...lines] = run.split('\n');
    const [attempt = '', rest] = lines.join('\n').split('/marker/');
    const changes = attempt
      .split('\n')
      .filter((line) => !/access|ENOENT/.test(line))
      .filter((line) => !/open/.test(line) || /O_CREAT|O_WRONLY|O_RDWR|O_TRUNC/.test(line))
      .filter((line) => /\(/.test(line));
    if (first.startsWith('0 honest')) {
      expect(rest, first).toMatch(/^unpacked/);
      expect(changes.join('\n'), first).toContain('metadata.json');
      for (const line of changes.filter((line) => line.includes('"')))
        expect(line, first).toContain(`"${directory}/out/0 honest`);
    } else {
      expect(rest, first).toMatch(/^refused/);
      expect(changes, first).toEqual([]);
    }
  }
});

test('ignores all of an archive but names, contents and the executable bit', async () => {
  const directory = temporaryDirectory();
  const entries: TarEntry[] = [
    { name: 'pax_global_header', typeFlag: 'g', content: paxRecord('path', '/tmp/global') },
    { name: 'sticky/', type: 'Directory', mode: 0o1777 },
    { name: 'shared/', type: 'Directory', mode: 0o2775 },
    { name: 'sticky/open', mode: 0o666, content: 'x' },
    {
      name: 'capable',
      mode: 0o700,
      pax:
        paxRecord('SCHILY.xattr.security.capability', 'x') +
        paxRecord('SCHILY.acl.access', 'user::rwx') +
        paxRecord('linkpath', '/etc/passwd') +
        paxRecord('uid', '4711') +
        paxRecord('mtime', '9999999999'),
    },
    { name: 'owned', edit: (header) => header.write('0004711\0', 108) },
  ];
  const archive = join(directory, 'a.tar');
  writeFileSync(archive, tarOf(entries));
  await unpackArchive(archive, join(directory, 'out'));
  expect(readTree(join(directory, 'out'))).toEqual({
    capable: '755 ',
    owned: '644 ',
    shared: '755 directory',
    sticky: '755 directory',
    'sticky/open': '644 x',
  });
  for (const name of ['capable', 'owned']) {
    const stats = statSync(join(directory, 'out', name));
    expect(stats).toMatchObject({ uid: process.getuid?.(), gid: process.getgid?.(), nlink: 1 });
    expect(stats.mtimeMs).toBeLessThan(Date.now() + 1_000);
  }
  // The central directory of a zip is all that counts.
  writeFileSync(
    join(directory, 'a.zip'),
    zipOf([{ name: 'fine', localName: `../${escapedName}` }]),
  );
  await unpackArchive(join(directory, 'a.zip'), join(directory, 'zip'));
  expect(readTree(join(directory, 'zip'))).toEqual({ fine: '644 ' });
  expect(readdirSync(directory).sort()).toEqual(['a.tar', 'a.zip', 'out', 'zip']);
});
