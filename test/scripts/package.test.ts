import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, readlinkSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseConfig } from '../../lib/config.ts';
import { copyPackageSources, makePackage, packageTime } from '../support/run/package.ts';
import { repository } from '../support/run/repository.ts';

const { version } = JSON.parse(readFileSync(join(repository, 'package.json'), 'utf8')) as {
  version: string;
};

function run(command: string, ...args: string[]): string {
  const { status, stdout, stderr } = spawnSync(command, args, { encoding: 'utf8' });
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  return stdout;
}

describe('the package', () => {
  const directory = mkdtempSync(join(tmpdir(), 'p2p update '));
  const tree = join(directory, 'a');
  const out = join(directory, 'out');
  const deb = join(out, `p2p-update_${version}_all.deb`);
  const unpacked = join(directory, 'unpacked');
  const at = (path: string): string => join(unpacked, path);
  const read = (path: string): string => readFileSync(at(path), 'utf8');
  let first: Awaited<ReturnType<typeof makePackage>>;

  beforeAll(async () => {
    copyPackageSources(tree);
    first = await makePackage(tree, { args: ['--out', out] });
    run('dpkg-deb', '-R', deb, unpacked);
  });
  afterAll(() => {
    rmSync(directory, { recursive: true, force: true });
  });

  it('is built, and named with its digest', () => {
    const [digest] = run('sha256sum', deb).split(' ');
    expect(first).toEqual({ status: 0, stdout: `${deb}\nSHA-256 ${digest ?? ''}\n`, stderr: '' });
  });

  it('has the same bytes in another directory, time zone, locale and umask', async () => {
    const other = join(directory, 'deeper/still/another place');
    copyPackageSources(other);
    const env = { TZ: 'Pacific/Auckland', LC_ALL: 'tr_TR.UTF-8', LANG: 'de_DE', HOME: '/' };
    const { status, stderr } = await makePackage(other, { umask: '077', env });
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    const file = join(other, 'scripts/package/out', `p2p-update_${version}_all.deb`);
    expect(readFileSync(file).equals(readFileSync(deb))).toBe(true);
  });

  it('has files of root alone, that others cannot change, with the time of the sources', () => {
    const lines = run('dpkg-deb', '-c', deb).trimEnd().split('\n');
    const date = new Date(packageTime * 1000).toISOString().slice(0, 10);
    for (const line of lines) {
      expect(line).toMatch(/^(drwxr-xr-x|-rwxr-xr-x|-rw-r--r--|lrwxrwxrwx) root\/root /);
      expect(line).toContain(` ${date} `);
    }
    const programs = lines.filter((line) => line.startsWith('-rwx'));
    expect(programs.length).toBeGreaterThan(10);
    for (const line of programs) expect(line).toContain(' ./usr/lib/p2p-update/dist/');
    expect(readlinkSync(at('usr/bin/p2p-update'))).toBe('../lib/p2p-update/dist/p2p-update.cjs');
  });

  it("runs Debian's Node, knows its version, and takes the time of the sources for its build time", () => {
    for (const path of ['p2p-update.cjs', 'handlers/update.cjs', 'handlers/status.cjs'])
      expect(read(`usr/lib/p2p-update/dist/${path}`)).toMatch(/^#!\/usr\/bin\/node\n/);
    const handler = read('usr/lib/p2p-update/dist/handlers/update.cjs');
    expect(handler.includes(`buildTime=${packageTime}`)).toBe(true);
    // No machine's path is in a bundle, and the libraries are named as in any other tree.
    expect(handler.includes('"node_modules/bencode/index.js"')).toBe(true);
    expect(handler.includes(repository)).toBe(false);
    const program = at('usr/bin/p2p-update');
    expect(run(process.execPath, program, 'version')).toBe(`${version}\n`);
    expect(run('dpkg-deb', '-f', deb, 'Depends')).toBe(
      'nodejs (>= 18), serf, transmission-daemon, puppet-agent | puppet | openvox-agent, passwd\n',
    );
  });

  it("has set-up's templates, units with the default paths, and nothing in /etc or /var", () => {
    const templates = at('usr/lib/p2p-update/scripts/setup');
    for (const name of ['p2p-update.cron', 'serf.service.conf', 'transmission-done.sh'])
      expect(readFileSync(join(templates, name), 'utf8')).toBe(
        readFileSync(join(repository, 'scripts/setup', name), 'utf8'),
      );
    const units = 'usr/lib/systemd/system';
    expect(run('ls', at(units)).trimEnd().split('\n')).toEqual([
      'p2p-update-advance.path',
      'p2p-update-advance.service',
      'p2p-update-advance.timer',
      'p2p-update-apply.path',
      'p2p-update-apply.service',
      'p2p-update-apply.timer',
    ]);
    expect(read(`${units}/p2p-update-apply.service`)).toContain(
      'ExecStart=/usr/lib/p2p-update/dist/p2p-update.cjs apply --no-wait\n',
    );
    expect(spawnSync('grep', ['-r', '@[A-Z]*@', at(units)]).status).toBe(1);
    expect(run('ls', unpacked)).toBe('DEBIAN\nusr\n');
  });

  it('has samples that the programs take', () => {
    const examples = 'usr/share/doc/p2p-update/examples';
    expect(parseConfig(read(`${examples}/config.json`), 'sample').nodeName).toBe('pi-07');
    expect(read(`${examples}/10-p2p-update.json`)).toContain(
      '"user:update=/usr/lib/p2p-update/dist/handlers/update.cjs"',
    );
    for (const name of ['20-p2p-update-keys', 'transmission', 'transmission-settings'])
      JSON.parse(read(`${examples}/${name}.json`));
    expect(run('readlink', '-e', at('usr/lib/p2p-update/docs/setup.md'))).toBe(
      `${at('usr/share/doc/p2p-update/setup.md')}\n`,
    );
  });

  it.each(['preinst', 'prerm', 'postinst', 'postrm'])('has a %s that sh can read', (name) => {
    run('sh', '-n', at(`DEBIAN/${name}`));
    expect(run('stat', '-c', '%a', at(`DEBIAN/${name}`))).toBe('755\n');
  });

  it('has a man page with each command and option of the help texts', () => {
    const page = gunzipSync(readFileSync(at('usr/share/man/man1/p2p-update.1.gz')))
      .toString()
      .replaceAll('\\-', '-');
    const program = at('usr/lib/p2p-update/dist/p2p-update.cjs');
    const commands = [...run(process.execPath, program, 'help').matchAll(/^ {2}([a-z]+) /gm)];
    expect(commands.length).toBeGreaterThan(10);
    for (const [, command = ''] of commands) {
      expect(page).toContain(`\n.SS ${command}\n`);
      if (command === 'help') continue;
      const help = run(process.execPath, program, 'help', command);
      for (const [, option = ''] of help.matchAll(/^ {2}(--[a-z-]+)/gm))
        expect(page.split(`\n.SS ${command}\n`)[1]).toMatch(
          new RegExp(`^\\.B ${option}( |$)`, 'm'),
        );
    }
  });

  it.each<[string[], string[]]>([
    [['re'], ['renew', 'retire', 'reconcile', 'retry']],
    [['--v'], ['--version']],
    [['nonsense', ''], []],
    [
      ['help', 'key'],
      ['keys', 'keygen'],
    ],
    [['keys', 'c'], ['countersign']],
    [['keys', 'send', 'c'], ['content.pp']],
    [
      ['keys', 'add', '--root'],
      ['--root-key', '--root-threshold', '--root'],
    ],
    [
      ['submit', '--re'],
      ['--rerun', '--renew', '--resend'],
    ],
    [['submit', 'c'], ['content.pp']],
    [['submit', '--channel', 'c'], []],
    [['submit', '--root-key', 'a'], ['a key.pub']],
    [['status', '--watch', '--j'], ['--json']],
    [['retire', ''], []],
    [['setup', '--keyset', 'c'], ['content.pp']],
  ])('completes in bash: p2p-update %j', (words, expected) => {
    const place = join(directory, 'place');
    mkdirSync(place, { recursive: true });
    for (const name of ['content.pp', 'a key.pub']) run('cp', '/dev/null', join(place, name));
    const script = `
      source "$0"
      COMP_WORDS=(p2p-update "$@") COMP_CWORD=$#
      _p2p_update
      printf '%s\\n' "\${COMPREPLY[@]}"`;
    const file = at('usr/share/bash-completion/completions/p2p-update');
    const { status, stdout, stderr } = spawnSync(
      'bash',
      ['--norc', '-uc', script, file, ...words],
      { cwd: place, encoding: 'utf8' },
    );
    expect({ status, stderr, words: stdout.split('\n').filter(Boolean) }).toEqual({
      status: 0,
      stderr: '',
      words: expected,
    });
  });

  it('is refused, with a hint, without a time, without dpkg-deb, and for an unknown option', async () => {
    const bin = join(directory, 'bin');
    mkdirSync(bin);
    for (const tool of ['sh', 'gzip']) symlinkSync(`/bin/${tool}`, join(bin, tool));
    expect(await makePackage(tree, { env: { PATH: bin } })).toMatchObject({
      status: 69,
      stdout: '',
      stderr:
        'package: error: dpkg-deb is missing, which makes the package\n' +
        'package: hint: build on Debian, or install it: apt-get install dpkg\n',
    });
    expect(await makePackage(tree, { env: { SOURCE_DATE_EPOCH: 'today' } })).toMatchObject({
      status: 64,
      stderr: expect.stringContaining('SOURCE_DATE_EPOCH is no time') as string,
    });
    expect(
      await makePackage(tree, { env: { SOURCE_DATE_EPOCH: undefined, GIT_DIR: '/nowhere' } }),
    ).toMatchObject({
      status: 64,
      stderr:
        'package: error: the time of the sources is not known: there is no commit here\n' +
        'package: hint: SOURCE_DATE_EPOCH=$(date +%s) npm run package\n',
    });
    expect(await makePackage(tree, { args: ['--ot', 'x'] })).toMatchObject({
      status: 64,
      stderr: expect.stringMatching(
        /^package: error: .*--ot.*\npackage: hint: .*--help\n$/,
      ) as string,
    });
  });
});
