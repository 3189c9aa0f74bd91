import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { copySources } from '../support/run/copy.ts';
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
    expect(build()).toMatchObject({ status: 0, stdout: '', stderr: '' });
    const tree = readTree(dist());
    expect(Object.keys(tree)).toEqual([
      'commands',
      ...[
        'doctor',
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
    expect(besides()).toEqual([]);
    const { version } = JSON.parse(readFileSync(join(copy, 'package.json'), 'utf8')) as {
      version: string;
    };
    expect(spawnSync(dist('p2p-update.cjs'), ['--version'], { encoding: 'utf8' }).stdout).toBe(
      `${version}\n`,
    );
  }, 60_000);

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
    expect(build().status).toBe(0);
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
