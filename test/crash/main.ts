/**
 * Kills, starves and cuts off the real programs at every instant that matters, and counts what must
 * never happen: docs/reliability.md. Runs in test/support/run/sandbox.sh (`npm run crash`).
 */
import { cpSync, existsSync, mkdtempSync, rmSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { exitStatus, formatError, UpdateError } from '../../lib/errors.ts';
import { commandLineOf } from '../../scripts/cli/command-line.ts';
import { progressBar } from '../../scripts/cli/progress-bar.ts';
import { mustRun } from '../support/run/command.ts';
import { runHistories } from './histories.ts';
import { runPowerCuts } from './power-cuts.ts';
import { runRandomKills } from './random-kills.ts';
import { countFailures, type CrashFailure, type CrashOptions, type CrashResult } from './result.ts';
import { runPoints } from './run-points.ts';

const help = `Usage: npm run crash -- [options]

Interrupts each handler and each stage of advance and apply at every system call that changes a file or
asks Transmission for a change: by SIGKILL, and by ENOSPC, EIO and EROFS in the call's place. After each
one at most two reconciles run, and then every update has to be where it was meant to be, nothing is
applied again after a durable APPLIED, and nothing is applied that nobody announced.

Then power cuts on an ext4 image, random kills of Serf, Transmission, Puppet and our own programs, a
thousand random histories of a node beside a model, and every bit of its records flipped.

Options:
  --part NAME  points, power-cuts, random-kills or histories alone; may be given more than once
  --short      a sample over every program, for a test (default: everything)
  --seed N     a whole number below 2^32 (default: 1); the same seed makes the same choices
  --only TEXT  only points whose name contains this
  --json       one JSON object on the last line
  --help

Exit status: 0 all held, 1 something did not, and the point is named, 64 usage.
`;

const { parse, usage } = commandLineOf(() => 'npm run crash -- --help');

const parts = ['points', 'power-cuts', 'random-kills', 'histories'] as const;
type Part = (typeof parts)[number];

interface Request extends Pick<CrashOptions, 'short' | 'seed' | 'only'> {
  json: boolean;
  parts: readonly Part[];
}

/** Parses the arguments; undefined is help. Throws UpdateError `usage`. */
function parseRequest(args: string[]): Request | undefined {
  const values = parseOptions(args);
  if (values.help === true) return undefined;
  const { seed = '1', short = false, json = false, only, part = parts } = values;
  if (!/^\d{1,10}$/.test(seed) || Number(seed) >= 2 ** 32)
    throw usage('--seed must be a whole number below 4294967296');
  const unknown = part.find((name) => !parts.some((each) => each === name));
  if (unknown !== undefined) throw usage(`--part must be one of ${parts.join(', ')}`);
  const chosen = parts.filter((name) => part.includes(name) && mayHave(name, only));
  return { seed: Number(seed), short, json, only, parts: chosen };
}

/** Part in which a point of that name would be; for a text that names no part, the points. */
function mayHave(part: Part, only: string | undefined): boolean {
  if (only === undefined) return true;
  const named = /^power cut/.test(only)
    ? 'power-cuts'
    : /^kills round/.test(only)
      ? 'random-kills'
      : only === 'histories'
        ? 'histories'
        : 'points';
  return part === named;
}

function parseOptions(args: string[]) {
  const [text, flag] = [{ type: 'string' } as const, { type: 'boolean' } as const];
  const options = {
    ...{ seed: text, only: text, short: flag, json: flag },
    part: { ...text, multiple: true as const },
  };
  return parse({ args, options: { ...options, help: { ...flag, short: 'h' } } }).values;
}

/** Runs something with a directory in memory, where a copy of a node costs milliseconds. */
async function withMemory<T>(action: (directory: string) => Promise<T>): Promise<T> {
  const directory = mkdtempSync(join(tmpdir(), 'p2p-crash-'));
  // Mounted in the sandbox's namespace, so that it goes with it, also after a kill.
  mustRun(['mount', '-t', 'tmpfs', '-o', 'mode=755', 'tmpfs', directory]);
  try {
    return await action(directory);
  } finally {
    mustRun(['umount', '--lazy', directory]);
    rmSync(directory, { recursive: true, force: true });
  }
}

function requireTools(): void {
  if (process.env['P2P_UPDATE_SANDBOX'] !== 'inside')
    throw usage('this runs in test/support/run/sandbox.sh only: npm run crash');
  for (const command of ['strace', 'flock', 'transmission-daemon'])
    if (!(process.env['PATH'] ?? '').split(':').some((path) => existsSync(join(path, command))))
      throw new UpdateError('unavailable', `${command} is missing`, {
        hint: 'sh scripts/bootstrap.sh installs the packages of the tests',
      });
}

async function crash({ json, parts, ...options }: Request): Promise<boolean> {
  requireTools();
  const print = (name: string, figures: Record<string, number>): void => {
    if (!json) console.log(line(name, figures));
  };
  const watched = (unit: string): CrashOptions => ({
    ...options,
    onProgress: progressBar('crash', { name: unit, size: 1, min: 1 }),
    onFailure: (failure) => {
      report(failure, options.seed);
    },
  });
  const failures: CrashFailure[] = [];
  const take = async (part: Part, run: () => Promise<CrashResult>): Promise<number> => {
    if (!parts.includes(part)) return 0;
    const result = await run();
    failures.push(...result.failures);
    for (const failure of result.failures) report(failure, options.seed);
    for (const { label, figures } of result.rows) print(label, figures);
    return result.count;
  };
  const points = parts.includes('points') ? await allPoints(watched('programs'), print) : undefined;
  failures.push(...(points?.failures ?? []));
  const powerCuts = await take('power-cuts', () => runPowerCuts(watched('updates')));
  const randomKills = await take('random-kills', () => runRandomKills(watched('kills')));
  await take('histories', () => runHistories(options));
  const counts = { points: points?.kills ?? 0, errorPoints: points?.errors ?? 0 };
  const result = { ...counts, powerCuts, randomKills, ...countFailures(failures) };
  console.log(json ? JSON.stringify(result) : result);
  return failures.length === 0;
}

/** Every point, in memory. */
function allPoints(
  options: CrashOptions,
  print: (name: string, figures: Record<string, number>) => void,
): Promise<{ kills: number; errors: number; failures: CrashFailure[] }> {
  return withMemory(async (memory) => {
    const dist = join(memory, 'dist');
    // Another build may run meanwhile.
    cpSync(join(import.meta.dirname, '..', '..', 'dist'), dist, { recursive: true });
    const lanes = availableParallelism() + 1;
    const directory = join(memory, 'points');
    const result = await runPoints({ ...options, directory, dist, lanes, onCase: print });
    const { kills, errors, missed, ranAgain } = result;
    for (const name of missed) process.stderr.write(`crash: warning: never met: ${name}\n`);
    print('in all', {
      points: kills.count,
      errorPoints: errors.count,
      ranAgain,
      missed: missed.length,
    });
    const failures = [...kills.failures, ...errors.failures];
    return { kills: kills.count, errors: errors.count, failures };
  });
}

function report({ invariant, point, detail }: CrashFailure, seed: number): void {
  process.stderr.write(
    `crash: error: ${invariant} after ${point}\n${detail.replace(/^/gm, '    ')}\n` +
      `crash: hint: repeat it with npm run crash -- --seed ${seed} --only '${point}'\n`,
  );
}

/** One line of the table for people. */
function line(name: string, figures: Record<string, number>): string {
  const cells = Object.entries(figures).map(([label, count]) => `${label} ${count}`.padEnd(16));
  return `${name.padEnd(52)} ${cells.join(' ')}`.trimEnd();
}

try {
  const request = parseRequest(process.argv.slice(2));
  if (request === undefined) process.stdout.write(help);
  else if (!(await crash(request))) process.exitCode = 1;
} catch (error) {
  process.stderr.write(formatError('crash', error));
  process.exitCode = exitStatus(error);
}
