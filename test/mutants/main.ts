/**
 * Breaks each guard of test/mutants/list.ts, one at a time and in a copy of the tree, and shows that
 * some test then fails. A guard that no test misses is not known to work.
 */
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { $ } from 'zx';
import { exitStatus, formatError } from '../../lib/errors.ts';
import { commandLineOf } from '../../scripts/cli/command-line.ts';
import { mutants, type Mutant } from './list.ts';
import { progressBar } from '../../scripts/cli/progress-bar.ts';

const help = `Usage: npm run mutants -- [--only TEXT] [--json]

Breaks each security guard in a copy of the tree and runs the tests that know it.

  --only TEXT   only the mutants whose name contains TEXT
  --json        one JSON object on the last line: {"mutants":[...],"survived":[]}

Exit status: 0 every mutant was noticed, 1 one survived, 64 usage.
`;

const root = join(import.meta.dirname, '..', '..');
/**
 * A test that a mutant keeps waiting fails after this; without a mutant none waits half as long, but on a
 * busy machine.
 */
const waitMs = process.env['P2P_TEST_WAIT_MS'] ?? '30000';

/** End of one run of the tests. */
interface Run {
  passed: number;
  failed: number;
  output: string;
}

/** A copy of the working tree, with its own dist/. */
async function copyTree(): Promise<string> {
  const copy = mkdtempSync(join(tmpdir(), 'p2p-update-mutants-'));
  const left = ['node_modules', '.git', 'dist'].map((name) => `--exclude=./${name}`);
  await $`tar -C ${root} -c ${left} . | tar -C ${copy} -x`;
  await $`ln -s ${join(root, 'node_modules')} ${copy}`;
  return copy;
}

/** Builds the copy and runs tests in it; a mutant that does not build is a fault of the list. */
async function runTests(copy: string, tests: readonly string[]): Promise<Run> {
  const env = { ...process.env, P2P_TEST_WAIT_MS: waitMs };
  const here = $({ cwd: copy, env, nothrow: true, quiet: true });
  const build = await here`npm run --silent build`;
  if (build.exitCode !== 0) throw new Error(`the copy does not build:\n${build.stderr}`);
  const { stdout, stderr } =
    await here`sh test/support/run/sandbox.sh npx vitest run --bail 1 ${tests}`;
  const line = /^(\d+) passed, (\d+) failed/m.exec(stdout);
  if (line === null) throw new Error(`the tests did not run:\n${stdout}${stderr}`);
  return { passed: Number(line[1]), failed: Number(line[2]), output: stdout + stderr };
}

/** Breaks one guard; returns a function that mends it. */
function breakGuard(copy: string, { name, also, ...first }: Mutant): () => void {
  const undo = [first, ...(also === undefined ? [] : [also])].map(({ file, find, replace }) => {
    const path = join(copy, file);
    const text = readFileSync(path, 'utf8');
    const places = text.split(find).length - 1;
    // The code has moved on: a mutant that changes nothing would prove nothing.
    if (places !== 1) throw new Error(`"${name}": ${file} has its text ${places} times, not once`);
    writeFileSync(
      path,
      text.replace(find, () => replace),
    );
    return () => {
      writeFileSync(path, text);
    };
  });
  return () => {
    for (const step of undo.reverse()) step();
  };
}

/** The first test that noticed. */
function firstFailure(output: string): string {
  const plain = output.replace(/\x1b\[[\d;]*m/g, '');
  return /^ *FAIL +(?:\|?\w+\|? +)?(.*)$/m.exec(plain)?.[1]?.trim() ?? 'a test file as a whole';
}

async function main(): Promise<void> {
  const { parse, usage } = commandLineOf(() => 'npm run mutants -- --help');
  const { values } = parse({
    args: process.argv.slice(2),
    options: {
      only: { type: 'string', default: '' },
      json: { type: 'boolean', default: false },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  if (values.help) {
    process.stdout.write(help);
    return;
  }
  const chosen = mutants.filter(({ name }) => name.includes(values.only));
  // Vitest without a file runs every test.
  if (chosen.length === 0) throw usage(`no mutant's name contains ${values.only}`);
  // A file that is not there fails no test, which would look like a mutant that survives.
  const absent = chosen.flatMap(({ tests }) => tests).find((file) => !existsSync(join(root, file)));
  if (absent !== undefined) throw new Error(`the list names ${absent}, which is not there`);
  const copy = await copyTree();
  const results: { name: string; file: string; noticedBy: string | null }[] = [];
  const onProgress = progressBar('mutants', { name: 'mutants', size: 1, min: 2 });
  try {
    for (const mutant of chosen) breakGuard(copy, mutant)();
    // A test that fails without any mutant would make every mutant look noticed.
    const whole = await runTests(copy, [...new Set(chosen.flatMap(({ tests }) => tests))]);
    if (whole.failed > 0) throw new Error(`the tests fail without a mutant:\n${whole.output}`);
    for (const mutant of chosen) {
      const restore = breakGuard(copy, mutant);
      const { failed, output } = await runTests(copy, mutant.tests);
      restore();
      const noticedBy = failed > 0 ? firstFailure(output) : null;
      const { name, file } = mutant;
      results.push({ name, file, noticedBy });
      if (!values.json)
        process.stdout.write(`${noticedBy === null ? 'SURVIVED' : 'noticed '}  ${name}\n`);
      onProgress?.(results.length, chosen.length);
    }
  } finally {
    rmSync(copy, { recursive: true, force: true });
  }
  const survived = results.filter(({ noticedBy }) => noticedBy === null).map(({ name }) => name);
  process.stdout.write(
    values.json
      ? `${JSON.stringify({ mutants: results, survived })}\n`
      : `${results.length} mutants, ${survived.length} survived\n`,
  );
  process.exitCode = survived.length > 0 ? 1 : 0;
}

try {
  await main();
} catch (error) {
  process.stderr.write(formatError('mutants', error));
  process.exitCode = exitStatus(error);
}
