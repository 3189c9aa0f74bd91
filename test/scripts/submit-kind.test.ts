import { execFileSync } from 'node:child_process';
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { gzipSync } from 'node:zlib';
import { makeOperator, type Operator, runCommand } from '../support/fleet/operator.ts';
import { tarOf, zipOf } from '../support/run/archives.ts';
import { readTree, writeTree } from '../support/run/tree.ts';

let operator: Operator;
beforeEach(() => {
  operator = makeOperator();
  operator.setMembers([]);
});

const metadata = JSON.stringify({
  ...{ name: 'acme-hello', version: '1.0.0', author: 'acme', license: '', source: '' },
  dependencies: [],
});
const moduleFiles = { 'metadata.json': metadata, 'manifests/init.pp': 'class hello { }\n' };
const place = (name: string, bytes: string | Buffer): void => {
  writeFileSync(join(operator.directory, name), bytes);
};
const tree = (name: string, files: Record<string, string>): string => {
  writeTree(join(operator.directory, name), files);
  return name;
};
const tar = (args: string): void => {
  execFileSync('tar', args.split(' '), { cwd: operator.directory });
};

/** The commands of a hint, as they are pasted. */
function commandsIn(stderr: string): string[] {
  const hint = stderr.slice(stderr.indexOf('submit: hint: '));
  return [...hint.matchAll(/(?:d=\$\(mktemp -d\) && .*?)?\S*p2p-update\S* submit .*$/gm)].map(
    ([command]) => command,
  );
}

/** Pastes a command into the operator's shell. */
function paste(command: string): { kind: string; name: string; channel: string; target: string } {
  const stdout = execFileSync(
    'bash',
    ['--norc', '-c', `${command.replace(/ {2}#.*/, '')} --json`],
    {
      cwd: operator.directory,
      env: { PATH: process.env['PATH'], TMPDIR: operator.directory, ...operator.env },
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    },
  );
  return JSON.parse(stdout) as ReturnType<typeof paste>;
}

const published = (): unknown => [
  operator.sent(),
  readTree(operator.config.publishDir),
  readTree(operator.config.stateDir),
];

/** Expects a refusal that has sent and kept nothing; returns the commands of its hint. */
async function refusedWith(status: number, message: RegExp, ...args: string[]): Promise<string[]> {
  const before = published();
  const outcome = await runCommand('submit', args, operator);
  expect(outcome).toMatchObject({ status, stdout: '' });
  expect(outcome.stderr).toMatch(message);
  expect(outcome.stderr).toMatch(/^submit: error: [^\n]+\nsubmit: hint: /);
  expect(published()).toEqual(before);
  return commandsIn(outcome.stderr);
}

describe('submit without --kind', () => {
  it.each<[string, () => string, RegExp]>([
    [
      'a manifest',
      () => {
        place('site.pp', 'notice(1)\n');
        return 'site.pp';
      },
      /^"site.pp" is taken for a manifest: its name ends in \.pp$/m,
    ],
    [
      'a directory',
      () => tree('site', { 'manifests/site.pp': 'notice(1)\n' }),
      /^"site" is taken for an environment: it is a directory with manifests\/$/m,
    ],
    [
      'a module whose file is named as its metadata.json says',
      () => {
        tree('hello', moduleFiles);
        tar('-czf acme-hello-1.0.0.tar.gz hello');
        return 'acme-hello-1.0.0.tar.gz';
      },
      /^"acme-hello-1.0.0.tar.gz" is taken for a module: its name is what its metadata.json says$/m,
    ],
    [
      'data',
      () => {
        place('data.tar', tarOf([{ name: 'data', content: 'x' }]));
        return 'data.tar';
      },
      /^"data.tar" is taken for a file: it is an archive without Puppet code$/m,
    ],
  ])('says in one line what it takes for what, and why: %s', async (_, make, line) => {
    const outcome = await runCommand('submit', [make(), '--dry-run'], operator);
    expect(outcome).toMatchObject({ status: 0, stderr: '' });
    expect(outcome.stdout.split('\n', 1)[0]).toMatch(line);
    expect(outcome.stdout.match(/is taken for/g)).toHaveLength(1);
  });

  it('keeps the reason for a script that asks for JSON', async () => {
    place('plain.bin', 'x');
    const { stdout } = await runCommand('submit', ['plain.bin', '--dry-run', '--json'], operator);
    expect(JSON.parse(stdout)).toMatchObject({
      kind: 'file',
      why: expect.stringMatching(/^it is no archive/) as string,
    });
    const said = await runCommand('submit', ['plain.bin', '--dry-run', '--kind', 'file'], operator);
    expect(said.stdout).not.toContain('is taken for');
  });

  it.each<[string, string, () => string | Buffer, string[]]>([
    [
      'photos that would become code',
      'my holiday.zip',
      () => zipOf([{ name: 'photos/manifests/x.pp', content: 'notice(1)' }]),
      ['environment', 'file'],
    ],
    [
      'a module under another name',
      `it's "hello".tgz`,
      () => gzipSync(tarOf([{ name: 'h/metadata.json', content: metadata }])),
      ['module', 'file'],
    ],
    [
      'an environment as a forge offers it',
      'main.tar.gz',
      () => gzipSync(tarOf([{ name: 'site-main/manifests/site.pp', content: 'notice(1)' }])),
      ['environment', 'file'],
    ],
    ['a manifest in upper case', 'SITE.PP', () => 'notice(1)\n', ['manifest', 'file']],
  ])(
    'refuses %s, with a command for each kind that works when pasted, all options kept',
    async (_, name, bytes, kinds) => {
      place(name, bytes());
      const options = ['--dry-run', '--channel', 'c', '--target', 'role=web', '--force'];
      const commands = await refusedWith(64, / may be a.* or a file/, name, ...options);
      const facts = commands.map(paste);
      expect(facts.map(({ kind }) => kind)).toEqual(kinds);
      for (const fact of facts) expect(fact).toMatchObject({ channel: 'c', target: 'role=web' });
    },
  );

  it('refuses an archive that is no module as it is, says why, and takes it as a file', async () => {
    place('firmware.tar.gz', gzipSync(tarOf([{ name: 'metadata.json', content: '{"v":1}' }])));
    const commands = await refusedWith(
      64,
      /may be a module \(but .*"name" in metadata.json.*\) or a file/,
      ...['firmware.tar.gz', '--dry-run'],
    );
    expect(commands[0]).toMatch(
      /--kind module firmware.tar.gz --dry-run {2}# first correct metadata.json/,
    );
    expect(paste(commands[1] ?? '')).toMatchObject({ kind: 'file' });
  });

  it.each(['xz', 'bzip2'])('refuses a module compressed with %s, and unpacks it', async (by) => {
    tree('hello', moduleFiles);
    const name = `acme-hello-1.0.0.tar.${by === 'xz' ? 'xz' : 'bz2'}`;
    tar(`--${by} -cf ${name} hello`);
    const commands = await refusedWith(64, RegExp(`compressed with ${by}`), name, '--dry-run');
    expect(commands.map(paste)).toMatchObject([{ kind: 'module' }, { kind: 'file' }]);
    const [said] = await refusedWith(65, /no node unpacks/, name, '--dry-run', '--kind=module');
    expect(paste(said ?? '')).toMatchObject({ kind: 'module' });
  });
});

describe('submit --kind', () => {
  it('takes the source of a module from its directory, named as a release', async () => {
    tree('hello', moduleFiles);
    const [asModule = ''] = await refusedWith(
      64,
      /"hello" may be a module or an environment/,
      ...['hello/', '--dry-run'],
    );
    expect(paste(asModule)).toMatchObject({
      kind: 'module',
      name: 'acme-hello-1.0.0.tar.gz',
      channel: 'acme-hello',
    });
  });

  it('delivers as a file what would be code, and a public key too', async () => {
    place('site.pp', 'file { "/x":\n  ensure => \n}\n');
    for (const file of ['site.pp', operator.releases[0]?.pub ?? '']) {
      const args = [file, '--kind', 'file', '--dry-run', '--json'];
      const outcome = await runCommand('submit', args, operator);
      expect(outcome).toMatchObject({ status: 0, stderr: '' });
      expect(JSON.parse(outcome.stdout)).toMatchObject({ kind: 'file' });
    }
  });

  it('refuses a directory that is neither, with a command that packs and delivers it', async () => {
    tree('two words', { 'a.jpg': 'x' });
    const [command = ''] = await refusedWith(
      65,
      /without manifests/,
      ...['two words', '--dry-run', '--name', 'photos.tar.gz'],
    );
    expect(paste(command)).toMatchObject({ kind: 'file', name: 'photos.tar.gz' });
  });

  it.each<[string[], number, RegExp]>([
    [['site.pp', '--kind', 'keyset'], 64, /--kind is one of manifest, module, environment, file/],
    [['--withdraw', 'web', '--kind', 'file'], 64, /--kind has no meaning with --withdraw/],
    [['site', '--kind', 'file'], 65, /"site" is a directory, and no file/],
    [['site', '--kind', 'module'], 65, /without metadata.json/],
  ])('is refused with %j', async (args, status, message) => {
    place('site.pp', 'notice(1)\n');
    tree('site', { 'manifests/site.pp': 'notice(1)\n' });
    await refusedWith(status, message, ...args);
  });
});

describe('the hint for an archive or directory with faults', () => {
  it('leaves out the tests of a module that link to the module itself', async () => {
    tree('rbenv', { ...moduleFiles, 'spec/fixtures/modules/.keep': '' });
    symlinkSync('../../..', join(operator.directory, 'rbenv/spec/fixtures/modules/rbenv'));
    tar('-czf acme-hello-1.0.0.tgz rbenv');
    for (const args of [['acme-hello-1.0.0.tgz'], ['rbenv', '--kind', 'module']]) {
      const [command = ''] = await refusedWith(
        65,
        /"(rbenv\/)?spec\/fixtures\/modules\/rbenv" is a symbolic link/,
        ...[...args, '--dry-run'],
      );
      expect(command).toContain('--exclude=spec');
      expect(command).not.toMatch(/tar -\w*h/);
      expect(paste(command)).toMatchObject({ kind: 'module' });
    }
  });

  it('copies the links of a control repository, all of which are named, and leaves out a circle', async () => {
    tree('control repo', { 'manifests/site.pp': 'notice(1)\n', 'common/file': 'x' });
    mkdirSync(join(operator.directory, 'control repo/files'));
    for (let i = 1; i <= 11; i += 1)
      symlinkSync('../common/file', join(operator.directory, `control repo/files/l${i}`));
    symlinkSync('..', join(operator.directory, 'control repo/files/up'));
    execFileSync('tar', ['-czf', 'control.tar.gz', 'control repo'], { cwd: operator.directory });
    for (const [args, name] of [
      [['control.tar.gz', '--kind', 'environment'], 'control-repo.tar.gz'],
      [['control repo', '--name', 'control.tgz'], 'control.tgz'],
    ] as const) {
      const message = /(?=.*\/up")(?=.*\/l1")(?=.*\/l11").*is a symbolic link/;
      const [command = ''] = await refusedWith(65, message, ...args, '--dry-run');
      const named = command.replace(
        'submit ',
        name === 'control.tgz' ? 'submit ' : `submit --name ${name} `,
      );
      expect(paste(named)).toMatchObject({ kind: 'environment', name });
    }
  });
});
