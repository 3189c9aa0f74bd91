/**
 * Runs the tests, `npm test [-- PART-OF-A-PATH...]`: all unit tests in one sandbox, and each file that
 * has real daemons in a sandbox of its own, a few sandboxes at a time. Such files look at processes and
 * name network devices: two of them in one sandbox would disturb each other.
 *
 * The handlers run from dist/, which is built before, once for all.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { basename, join } from 'node:path';
import { stripVTControlCharacters } from 'node:util';

const root = join(import.meta.dirname, '..', '..', '..');
const withDaemons = /^test\/(integration|attacks)\//;
/** One more than there are cores: some of them wait for a daemon at any time. */
const atOnce = availableParallelism() + 1;
const limitMs = 600_000;
/** Where Vitest says what failed, and the first lines of why. */
const failureBlocks = /^ FAIL .*\n(?:(?! FAIL |⎯).*\n){0,16}/gm;
/** These begin first, so that nothing long is left when the others have ended. */
const longest = [
  'main-path',
  'faults',
  'kinds',
  'targets-and-stops',
  'puppet',
  'keys',
  'absence',
  'crash',
  'random-kills',
  'power-cuts',
  'corrupt-state',
  'fleet-status',
  'histories',
  'catch-up',
  'split-triggers',
];

interface Result {
  passed: number;
  failed: number;
  skipped: number;
  /** What a person should see again at the end. */
  failures: string[];
}

const running = new Set<ChildProcess>();
/** Ends a sandbox, which ends what is in it; one that does not is killed, which does the same. */
function end(child: ChildProcess): void {
  child.kill('SIGTERM');
  setTimeout(() => child.kill('SIGKILL'), 10_000).unref();
}

/** Runs test files in a sandbox of their own, and prints their output when they have ended. */
async function run(name: string, files: readonly string[]): Promise<Result> {
  const began = Date.now();
  const vitest = join(root, 'node_modules', 'vitest', 'vitest.mjs');
  const command = [
    'sh',
    join(root, 'test/support/run/sandbox.sh'),
    process.execPath,
    vitest,
    'run',
  ];
  // When this process is killed with -9 the sandbox ends too.
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', ...command, ...files], {
    cwd: root,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  running.add(child);
  const timer = setTimeout(end, limitMs, child);
  const chunks: Buffer[] = [];
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (chunk: Buffer) => chunks.push(chunk));
  const status = await new Promise<string>((resolve) => {
    child.on('error', (error) => {
      resolve(error.message);
    });
    child.on('close', (code, signal) => {
      resolve(signal ?? String(code));
    });
  });
  clearTimeout(timer);
  running.delete(child);

  const took = Date.now() - began;
  const isLate = took >= limitMs;
  const output = Buffer.concat(chunks).toString();
  // test/support/run/closing-line.ts
  const closing = /^(\d+) passed, (\d+) failed, (\d+) skipped\n/m.exec(output);
  const [passed = 0, failed = 0, skipped = 0] = (closing ?? []).slice(1).map(Number);
  const failures: string[] = stripVTControlCharacters(output).match(failureBlocks) ?? [];
  const isBroken = isLate || closing === null || (status !== '0' && failed === 0);
  if (isBroken) {
    const why = isLate ? `no end after ${limitMs / 1000} s` : `ended with ${status}`;
    failures.push(` FAIL  ${name}: ${why}`);
  }
  console.log(`\n──── ${name}: ${Math.round(took / 1000)} s`);
  console.log(output.replace(closing?.[0] ?? '', '').trim());
  return { passed, failed: failed + (isBroken ? 1 : 0), skipped, failures };
}

const parts = process.argv.slice(2);
const chosen = readdirSync(join(root, 'test'), { recursive: true, encoding: 'utf8' })
  .map((path) => `test/${path}`)
  .filter((path) => path.endsWith('.test.ts'))
  .filter((path) => parts.length === 0 || parts.some((part) => path.includes(part)))
  .sort();
if (chosen.length === 0) console.error(`no test file has any of: ${parts.join(', ')}`);
const units = chosen.filter((path) => !withDaemons.test(path));
const isLong = (path: string): boolean => longest.includes(basename(path, '.test.ts'));
const queue = chosen
  .filter((path) => withDaemons.test(path))
  .sort((one, other) => Number(isLong(other)) - Number(isLong(one)))
  .map((path) => [path]);
if (units.length > 0) queue.unshift(units);

// What is ended counts as failed.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
  process.on(signal, () => {
    queue.length = 0;
    for (const child of running) end(child);
  });

const results: Result[] = [];
const work = async (): Promise<void> => {
  for (let files = queue.shift(); files !== undefined; files = queue.shift()) {
    results.push(await run(files === units ? 'unit tests' : files.join(), files));
  }
};
await Promise.all(Array.from({ length: atOnce }, work));

console.log(`\n${[...new Set(results.flatMap(({ failures }) => failures))].join('\n')}`);
const sum = (of: 'passed' | 'failed' | 'skipped'): number =>
  results.reduce((total, result) => total + result[of], 0);
console.log(`${sum('passed')} passed, ${sum('failed')} failed, ${sum('skipped')} skipped`);
process.exitCode = sum('failed') > 0 || chosen.length === 0 ? 1 : 0;
