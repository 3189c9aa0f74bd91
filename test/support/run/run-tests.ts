/**
 * Runs the tests, `npm test [-- PART-OF-A-PATH...]`, and beside them the static checks, a few sandboxes at
 * a time: one has all unit tests, each other one a long file with real daemons, or a few that are short,
 * one after the other. Such files look at processes and name network devices: two of them at once in one
 * sandbox would disturb each other.
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
/**
 * More than there are cores, since most of them wait for a daemon at any time; and no more than that, or the
 * nodes are too busy to answer each other within the seconds of a query.
 */
const atOnce = availableParallelism() + 2;
/** A hang; beside forty busy processes the longest takes half of it. */
const limitMs = 2_400_000;
/** Lines of Vitest that name the failures, with the first lines of the reasons. */
const failureBlocks = /^ FAIL .*\n(?:(?! FAIL |⎯).*\n){0,16}/gm;
/** Files in a sandbox: each start of Vitest costs a second. */
const filesTogether = 4;
/** These are alone and begin first, the longest before the others, so that nothing long is left at the end. */
const longest = [
  'faults',
  'fleet-status',
  'doctor',
  'catch-up',
  'set-up',
  'lost-content',
  'split-triggers',
  'transmission',
  'main-path',
  'absence',
  'kinds',
  'targets-and-stops',
  'archive-bombs',
  'keys',
  'crash',
  'daemon-crash',
  'doctor-users',
  'poisoned-tsx-cache',
  'clock-jumps',
  'endless-data',
  'retire',
  'random-kills',
  'subnets',
  'marker-and-channel-floods',
  'slow-or-stalled-download',
  'puppet',
];
interface Job {
  name: string;
  command: readonly string[];
  /** It prints the closing line of Vitest. */
  hasTests: boolean;
}

interface Result {
  passed: number;
  failed: number;
  skipped: number;
  /** Output that a person should see again at the end. */
  failures: string[];
}

const running = new Set<ChildProcess>();
/** Ends a sandbox, which ends what is in it; one that does not is killed, which does the same. */
function end(child: ChildProcess): void {
  child.kill('SIGTERM');
  setTimeout(() => child.kill('SIGKILL'), 10_000).unref();
}

function named(path: string): string {
  return basename(path, '.test.ts');
}

function batchesOf(files: readonly string[]): string[][] {
  const starts = files.map((_, index) => index).filter((index) => index % filesTogether === 0);
  return starts.map((start) => files.slice(start, start + filesTogether));
}

/** Test files in a sandbox of their own. */
function tests(files: readonly string[], name = files.map(named).join(', ')): Job {
  const sandbox = ['sh', join(root, 'test/support/run/sandbox.sh')];
  const vitest = [process.execPath, join(root, 'node_modules', 'vitest', 'vitest.mjs'), 'run'];
  return { name, command: [...sandbox, ...vitest, ...files], hasTests: true };
}

/** Runs a job, and prints its output when it has ended. */
async function run({ name, command, hasTests }: Job): Promise<Result> {
  const began = Date.now();
  // When this process is killed with -9 the job ends too.
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', ...command], {
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
  const isBroken = isLate || (hasTests && closing === null) || (status !== '0' && failed === 0);
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
const place = (path: string): number => longest.indexOf(named(path));
const isLong = (path: string): boolean => longest.includes(named(path));
const units = chosen.filter((path) => !withDaemons.test(path));
const long = chosen.filter((path) => withDaemons.test(path) && isLong(path));
const others = chosen.filter((path) => withDaemons.test(path) && !isLong(path));
const queue: Job[] = [
  { name: 'static checks', command: ['npm', 'run', '--silent', 'check:static'], hasTests: false },
  ...(units.length > 0 ? [tests(units, 'unit tests')] : []),
  ...long.sort((one, other) => place(one) - place(other)).map((path) => tests([path])),
  ...batchesOf(others).map((paths) => tests(paths)),
];

// An ended sandbox counts as failed.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
  process.on(signal, () => {
    queue.length = 0;
    for (const child of running) end(child);
  });

const results: Result[] = [];
const work = async (): Promise<void> => {
  for (let job = queue.shift(); job !== undefined; job = queue.shift())
    results.push(await run(job));
};
await Promise.all(Array.from({ length: atOnce }, work));

console.log(`\n${[...new Set(results.flatMap(({ failures }) => failures))].join('\n')}`);
const sum = (of: 'passed' | 'failed' | 'skipped'): number =>
  results.reduce((total, result) => total + result[of], 0);
console.log(`${sum('passed')} passed, ${sum('failed')} failed, ${sum('skipped')} skipped`);
process.exitCode = sum('failed') > 0 || chosen.length === 0 ? 1 : 0;
