import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  appendFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import ts from 'typescript';
import { beforeEach, describe, expect, it } from 'vitest';
import { copySources } from '../support/run/copy.ts';
import { repository } from '../support/run/repository.ts';
import { temporaryDirectory } from '../support/run/temporary.ts';
import { readTree } from '../support/run/tree.ts';

/** A copy of the tree: other tests use the dist/ of this one. */
let copy = '';
beforeEach(() => {
  copy = join(temporaryDirectory(), 'code');
  copySources(copy);
});

const build = (prefix: string[] = []) => {
  const argv = [...prefix, process.execPath, 'scripts/build.mjs'];
  return spawnSync(argv[0] ?? '', argv.slice(1), { cwd: copy, encoding: 'utf8' });
};
const dist = (...path: string[]): string => join(copy, 'dist', ...path);
const besides = (): string[] => readdirSync(copy).filter((name) => name.startsWith('dist.new-'));

describe('the build', () => {
  it('makes each program executable, and removes the files of an earlier version', () => {
    mkdirSync(dist('scripts', 'old'), { recursive: true });
    writeFileSync(dist('scripts', 'old', 'apply.cjs'), '');
    writeFileSync(dist('.hidden'), '');
    const before = Math.floor(Date.now() / 1000);
    expect(build()).toMatchObject({ status: 0, stdout: '', stderr: '' });
    const tree = readTree(dist());
    expect(Object.keys(tree)).toEqual([
      'commands',
      ...[
        'doctor',
        'invite',
        'keygen',
        'keys',
        'log',
        'reconcile',
        'retire',
        'setup',
        'status',
        'submit',
      ].map((name) => `commands/${name}.cjs`),
      'handlers',
      ...['latest', 'member-join', 'status', 'transmission-done', 'update'].map(
        (name) => `handlers/${name}.cjs`,
      ),
      'p2p-update.cjs',
    ]);
    for (const [path, entry] of Object.entries(tree)) expect(entry, path).toMatch(/^755 /);
    for (const path of ['p2p-update.cjs', 'handlers/update.cjs'])
      expect(readFileSync(dist(path), 'utf8').startsWith(`#!${process.execPath}\n`)).toBe(true);
    // The time of the build, where nothing tells that of the sources.
    const [, time] =
      /\bbuildTime=(\d+)/.exec(readFileSync(dist('handlers/update.cjs'), 'utf8')) ?? [];
    expect(Number(time)).toBeGreaterThanOrEqual(before);
    expect(besides()).toEqual([]);
    const { version } = JSON.parse(readFileSync(join(copy, 'package.json'), 'utf8')) as {
      version: string;
    };
    expect(spawnSync(dist('p2p-update.cjs'), ['--version'], { encoding: 'utf8' }).stdout).toBe(
      `${version}\n`,
    );
  }, 60_000);

  it('makes programs that Node 18 can run, which lacks some functions of the Node that builds', () => {
    const built = join(repository, 'dist');
    const newer =
      /\.(toSorted|toReversed|toSpliced|with|fromAsync|withResolvers|groupBy|styleText|getBuiltinModule)\(|\.hash\)?\(|import_node_zlib\d*\.crc32\b|import\.meta|node:sqlite|\.read\(Buffer\.alloc\(\w+\)\)/g;
    for (const sample of [
      'x.toSorted()',
      'x.with(0,1)',
      '(0,c.hash)("sha1",x)',
      'import.meta',
      '(0,import_node_zlib2.crc32)(x)',
      // FileHandle.read() without a length reads nothing.
      'h.read(Buffer.alloc(9))',
    ])
      expect(sample).toMatch(newer);
    const programs = Object.keys(readTree(built)).filter((path) => path.endsWith('.cjs'));
    expect(programs.length).toBeGreaterThan(10);
    for (const path of programs)
      expect(readFileSync(join(built, path), 'utf8').match(newer), path).toBeNull();
  });

  it.each(['10.24.1', '12.22.12', '16.20.2'])('makes a program that refuses Node %s', (version) => {
    const preload = join(copy, 'older.cjs');
    writeFileSync(
      preload,
      `Object.defineProperty(process, 'versions', { value: { node: '${version}' } });\n`,
    );
    const program = join(repository, 'dist', 'p2p-update.cjs');
    const argv = ['--require', preload, program, 'setup'];
    expect(spawnSync(process.execPath, argv, { encoding: 'utf8' })).toMatchObject({
      status: 69,
      stdout: '',
      stderr:
        `p2p-update: error: p2p-update needs Node 18 or newer, this is ${version}\n` +
        'p2p-update: hint: Debian 12 and 13 have it: apt-get install nodejs\n',
    });
  });

  it('makes that program of words that such a Node can read', () => {
    const newer: ReadonlySet<ts.SyntaxKind> = new Set([
      ...[ts.SyntaxKind.QuestionDotToken, ts.SyntaxKind.QuestionQuestionToken],
      ...[ts.SyntaxKind.QuestionQuestionEqualsToken, ts.SyntaxKind.BarBarEqualsToken],
      ...[ts.SyntaxKind.PropertyDeclaration, ts.SyntaxKind.PrivateIdentifier],
      ...[ts.SyntaxKind.BigIntLiteral, ts.SyntaxKind.ClassStaticBlockDeclaration],
    ]);
    const newerIn = (text: string): string[] => {
      const found: string[] = [];
      const look = (node: ts.Node): void => {
        if (newer.has(node.kind)) found.push(node.getText());
        node.getChildren().forEach(look);
      };
      look(ts.createSourceFile('x.cjs', text, ts.ScriptTarget.Latest, true, ts.ScriptKind.JS));
      return found;
    };
    for (const sample of ['a?.b', 'a ?? b', 'a ??= b', 'class A { b = 1 }', 'class A { #b() {} }'])
      expect(newerIn(sample), sample).not.toEqual([]);
    expect(newerIn(readFileSync(join(repository, 'dist', 'p2p-update.cjs'), 'utf8'))).toEqual([]);
  });

  it('takes the time of SOURCE_DATE_EPOCH, or else that of the last commit, for that of the sources', () => {
    const script =
      "console.log(await (await import('./scripts/build/source-time.mjs')).sourceTime())";
    const time = (env: Record<string, string> = {}): string => {
      const argv = ['--input-type=module', '--eval', script];
      const options = { cwd: copy, env: { ...process.env, ...env }, encoding: 'utf8' } as const;
      return spawnSync(process.execPath, argv, options).stdout;
    };
    expect(time()).toBe('undefined\n');
    const git = (...args: string[]) => {
      const identity = ['-c', 'user.name=x', '-c', 'user.email=x@example.org'];
      const env = { ...process.env, GIT_COMMITTER_DATE: '1795000002 +0000' };
      expect(spawnSync('git', [...identity, ...args], { cwd: copy, env }).status).toBe(0);
    };
    git('init', '--quiet');
    git('commit', '--quiet', '--allow-empty', '--no-gpg-sign', '--message=x');
    expect(time()).toBe('1795000002\n');
    expect(time({ SOURCE_DATE_EPOCH: '1795000001' })).toBe('1795000001\n');
  });

  it('refuses a SOURCE_DATE_EPOCH that is no time, before it builds anything', () => {
    expect(build(['env', 'SOURCE_DATE_EPOCH=today'])).toMatchObject({
      status: 64,
      stderr:
        'build: error: SOURCE_DATE_EPOCH is no time in unix seconds: "today"\n' +
        'build: hint: unset SOURCE_DATE_EPOCH\n',
    });
    expect(existsSync(dist())).toBe(false);
  });

  it('needs Node 20.19 itself, and says so in one line before anything else', () => {
    const preload = join(copy, 'older.cjs');
    writeFileSync(
      preload,
      "Object.defineProperty(process, 'versions', { value: { node: '20.18.3' } });\n",
    );
    const argv = ['--require', preload, 'scripts/build.mjs'];
    expect(spawnSync(process.execPath, argv, { cwd: copy, encoding: 'utf8' })).toMatchObject({
      status: 69,
      stdout: '',
      stderr:
        'build: error: p2p-update needs Node 20.19 or newer, this is 20.18.3\n' +
        'build: hint: install a newer Node, and have its directory first in PATH\n',
    });
    expect(existsSync(dist())).toBe(false);
  });

  it.each<[string, string, boolean]>([
    ['v18.20.8', '18.20.8', false],
    ['v20.18.3', '20.18.3', false],
    ['v20.2.0', '20.2.0', false],
    ['v20.19.0', '', true],
    ['v22.1.0', '', true],
  ])('is set up by a Node of 20.19 or newer alone: %s', (version, shown, isEnough) => {
    const bin = join(copy, 'bin');
    mkdirSync(bin);
    writeFileSync(join(bin, 'node'), `#!/bin/sh\necho ${version}\n`, { mode: 0o755 });
    writeFileSync(join(bin, 'npm'), '#!/bin/sh\necho npm was run >&2\nexit 3\n', { mode: 0o755 });
    // Without npm's record in node_modules the first step is npm ci.
    rmSync(join(copy, 'node_modules'));
    const env = { PATH: `${bin}:/usr/bin:/bin` };
    expect(
      spawnSync('sh', ['scripts/bootstrap.sh'], { cwd: copy, env, encoding: 'utf8' }),
    ).toMatchObject({
      status: isEnough ? 3 : 69,
      stderr: isEnough
        ? 'setup: installing the npm packages of package-lock.json (npm ci)\nnpm was run\n'
        : `setup: error: p2p-update needs Node 20.19 or newer, this is ${shown}\n` +
          'setup: hint: install a newer Node, and have its directory first in PATH\n',
    });
  });

  it.each<[string, () => void, string[], RegExp]>([
    [
      'a source that is no TypeScript',
      () => {
        appendFileSync(join(copy, 'lib/config.ts'), 'const = ;\n');
      },
      [],
      /config\.ts/,
    ],
    [
      'a program that does not start',
      () => {
        appendFileSync(join(copy, 'scripts/cli/program.ts'), "throw new Error('broken');\n");
      },
      [],
      /broken/,
    ],
    // The largest bundle has some 500 KB.
    ['a disk that is full half-way', () => undefined, ['prlimit', '--fsize=300000', '--'], /EFBIG/],
  ])(
    'leaves dist/ as it was when it fails for %s',
    (_, spoil, prefix, reason) => {
      mkdirSync(dist('handlers'), { recursive: true });
      writeFileSync(dist('p2p-update.cjs'), 'of before');
      writeFileSync(dist('handlers', 'update.cjs'), 'of before');
      const before = readTree(dist());
      spoil();
      const { status, stderr } = build(prefix);
      expect(status).toBe(1);
      expect(stderr).toMatch(reason);
      expect(stderr).toMatch(
        /^build: error: .+\n(?:.*\n)*build: hint: dist\/ is as it was.*npm run build\n$/m,
      );
      expect(readTree(dist())).toEqual(before);
      expect(besides()).toEqual([]);
    },
    60_000,
  );

  it('keeps the handlers and the program in place at every moment, also while two builds run', async () => {
    cpSync(join(repository, 'dist'), dist(), { recursive: true });
    const programs = ['handlers/transmission-done.cjs', 'p2p-update.cjs'];
    const run = (program: string) => spawnSync(dist(program), ['version'], { encoding: 'utf8' });
    const usual = programs.map((program) => run(program).status);
    let running = 0;
    const builds = [1, 2].map(async () => {
      running += 1;
      const child = spawn(process.execPath, ['scripts/build.mjs'], { cwd: copy, stdio: 'inherit' });
      const [status] = (await once(child, 'exit')) as [number | null];
      running -= 1;
      return status;
    });
    let looks = 0;
    while (running > 0) {
      for (let i = 0; i < 2000; i += 1, looks += 1)
        for (const program of programs) if (!existsSync(dist(program))) throw new Error(program);
      expect(programs.map((program) => run(program).status)).toEqual(usual);
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(await Promise.all(builds)).toEqual([0, 0]);
    expect(looks).toBeGreaterThan(2000);
    expect(besides()).toEqual([]);
  }, 120_000);
});
