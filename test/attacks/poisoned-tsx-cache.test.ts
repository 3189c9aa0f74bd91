import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { makeOperator } from '../support/fleet/operator.ts';
import { copySources } from '../support/run/copy.ts';
import { repository } from '../support/run/repository.ts';
import { temporaryDirectory } from '../support/run/temporary.ts';
import { Image, whyNoImage } from '../support/split/setup-image.ts';

/** Where tsx keeps what it has compiled, for whoever has no TMPDIR: any local user can make it first. */
const cache = `/tmp/tsx-${process.geteuid?.() ?? 0}`;
/** Binds a directory over another one, in a mount namespace of its own, and runs a command there. */
const within = 'mount --bind "$1" "$2"; shift 2; exec "$@"';
const hasNamespaces = spawnSync('unshare', ['--mount', 'true']).status === 0;
const why = hasNamespaces ? '' : ' (needs mount namespaces: run npm test)';

/** A machine whose user of that id left poison in the cache of tsx: all that it compiled runs it too. */
class PoisonedMachine {
  readonly code: string;
  readonly #directory: string;
  readonly #planted: string;
  readonly #marker: string;

  constructor() {
    const directory = mkdtempSync(join(tmpdir(), 'p2p update '));
    this.#directory = directory;
    this.code = join(directory, 'code');
    this.#planted = join(directory, 'planted');
    this.#marker = join(directory, 'poison-was-run');
    copySources(this.code);
    mkdirSync(this.#planted, { mode: 0o777 });
    mkdirSync(cache, { recursive: true });
    const scripts = readdirSync(join(this.code, 'scripts')).filter((name) => name.endsWith('.ts'));
    for (const name of scripts)
      expect(this.run(['node', '--import', 'tsx', `scripts/${name}`, '--help']).stderr).toBe('');
    const poison = `process.getBuiltinModule('node:fs').writeFileSync(${JSON.stringify(this.#marker)}, 'run');`;
    for (const name of readdirSync(this.#planted)) {
      const file = join(this.#planted, name);
      const text = readFileSync(file, 'utf8');
      // tsx ends without waiting for the entries that it writes.
      if (!text.endsWith('}')) continue;
      const entry = JSON.parse(text) as { code: string };
      writeFileSync(file, JSON.stringify({ ...entry, code: poison + entry.code }));
    }
    // As it was: another user's, who can go on changing it.
    chmodSync(this.#planted, 0o777);
    if (whyNoImage() === undefined) chownSync(this.#planted, 65534, 65534);
  }

  run(command: readonly string[], env: Record<string, string> = {}) {
    const [program = '', ...args] = command;
    const argv = ['--mount', '--propagation', 'private', 'sh', '-ec', within, 'sh'];
    return spawnSync('unshare', [...argv, this.#planted, cache, program, ...args], {
      cwd: this.code,
      env: { PATH: `${dirname(process.execPath)}:${process.env['PATH'] ?? ''}`, ...env },
      encoding: 'utf8',
    });
  }

  remove(): void {
    rmSync(this.#directory, { recursive: true, force: true });
  }

  /** Whether the poison was run since the last time. */
  wasHarmed(): boolean {
    const wasHarmed = existsSync(this.#marker);
    rmSync(this.#marker, { force: true });
    return wasHarmed;
  }
}

describe(`a cache of tsx that another user made first${why}`, () => {
  let machine: PoisonedMachine;
  beforeAll(() => {
    if (hasNamespaces) machine = new PoisonedMachine();
  });
  beforeEach(({ skip }) => {
    if (!hasNamespaces) skip();
  });
  afterAll(() => {
    if (hasNamespaces) machine.remove();
  });

  it('is run by tsx, which shows that this test can fail, and not without the cache', () => {
    const help = ['node', '--import', 'tsx', 'scripts/keygen.ts', '--help'];
    expect(machine.run(help).status).toBe(0);
    expect(machine.wasHarmed()).toBe(true);
    expect(machine.run(help, { TSX_DISABLE_CACHE: '1' }).status).toBe(0);
    expect(machine.wasHarmed()).toBe(false);
    expect(machine.run(['node_modules/.bin/tsx', 'scripts/keygen.ts', '--help']).status).toBe(0);
    expect(machine.wasHarmed()).toBe(true);
  }, 120_000);

  it('is run by nothing that root or the holder of a key runs', () => {
    const operator = makeOperator();
    operator.setMembers([]);
    const file = operator.file('a.bin', 'x');
    const program = join(machine.code, 'dist/p2p-update.cjs');
    const keys = join(temporaryDirectory(), 'keys');
    const runs: [string, string[], number][] = [
      ['build', ['npm', 'run', '--silent', 'build'], 0],
      ['keygen', [program, 'keygen', '--fleet', 'example', '--out', keys], 0],
      ['submit', [program, 'submit', '--dry-run', file], 0],
      ['keys', [program, 'keys', 'list'], 0],
      // A fleet without a member, and a node without an update.
      ['status', [program, 'status'], 0],
      ['reconcile', [program, 'reconcile'], 0],
    ];
    for (const [name, command, status] of runs) {
      const outcome = machine.run(command, operator.env);
      expect({ name, ...outcome }).toMatchObject({ name, status });
      expect({ name, wasHarmed: machine.wasHarmed() }).toEqual({ name, wasHarmed: false });
    }
    expect(readdirSync(keys)).toContain('root.key');
  }, 120_000);

  it.skipIf(whyNoImage() !== undefined)(
    'is not run by set-up',
    () => {
      const image = new Image();
      for (const args of [['--dry-run'], []]) {
        const setup = [image.at('/opt/p2p-update/built/p2p-update.cjs'), 'setup'];
        expect(machine.run([...setup, '--root', image.root, ...args])).toMatchObject({ status: 0 });
        expect(machine.wasHarmed()).toBe(false);
      }
    },
    120_000,
  );
});

describe('what the package runs', () => {
  const { scripts } = JSON.parse(readFileSync(join(repository, 'package.json'), 'utf8')) as {
    scripts: Record<string, string>;
  };

  it('is never tsx with its cache', () => {
    const byTsx = Object.entries(scripts).filter(([, line]) => line.includes('tsx'));
    expect(byTsx.map(([name]) => name)).toContain('test');
    for (const [name, line] of byTsx)
      expect(line, name).toMatch(/(^|&& )TSX_DISABLE_CACHE=1 [^&]*tsx[^&]*$/);
    expect(scripts['build']).toBe('node scripts/build.mjs');
    expect(readFileSync(join(repository, 'scripts/bootstrap.sh'), 'utf8')).not.toContain('tsx');
  });
});
