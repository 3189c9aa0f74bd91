import { spawn } from 'node:child_process';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  isFixedPath,
  isStateChanging,
  keyOf,
  parseTrace,
  tracedCalls,
  type SystemCall,
} from './trace.ts';

/** A program that is run again and again from the same state. */
export interface Program {
  argv: readonly string[];
  env: Readonly<Record<string, string>>;
  input: string;
  /** Directory below which its changes count. */
  directory: string;
  /** Time without effect after which it is ended: it may go on with background tasks, which may be lost. */
  quietMs: number | undefined;
}

/** Fault injected at one call, in place of the call. */
export type Injection = 'SIGKILL' | 'ENOSPC' | 'EIO' | 'EROFS' | 'ECONNRESET';

/** One state-changing call of a program, with the means to find it again. */
export interface Point {
  name: string;
  call: SystemCall;
  key: string;
  /** Of the calls with this key, counted from 1. */
  occurrence: number;
  aims: Aim[];
}

/** Means to have strace count to the call: `when` counts per thread and per name of call. */
interface Aim {
  path: string | undefined;
  when: number;
  /** Of all threads, or of the first one alone, which no other one can then anticipate. */
  allThreads: boolean;
}

export interface Ending {
  /** null: by a signal. */
  status: number | null;
  stderr: string;
  calls: SystemCall[];
  /** The harness ended it in its background tasks. */
  wasEnded: boolean;
}

/** Children are let go when they call execve(2), so that none is hit in its parent's place. */
const allThreads = ['-f', '-b', 'execve'];
const maxRunMs = 60_000;
const pollMs = 40;

/**
 * Runs a program under strace. One thread does all asynchronous file calls (UV_THREADPOOL_SIZE),
 * and none of V8's own is in the way: so a call's number on its thread is the same in each run.
 */
export async function runTraced(
  program: Program,
  output: string,
  extra: readonly string[] = [],
): Promise<Ending> {
  rmSync(output, { force: true });
  const isInjected = extra.length > 0;
  const settings = ['-yy', '-s', '1500', '-o', output];
  const argv = [
    ...settings,
    ...(isInjected ? extra : [...allThreads, '-e', `trace=${tracedCalls}`]),
  ];
  const child = spawn('strace', [...argv, '--', ...program.argv], {
    env: { ...program.env, UV_THREADPOOL_SIZE: '1', NODE_OPTIONS: '--v8-pool-size=0' },
    cwd: '/',
    stdio: ['pipe', 'ignore', 'pipe'],
    detached: true,
  });
  let stderr = '';
  child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
  // A program that is killed reads no more.
  child.stdin.on('error', () => undefined);
  child.stdin.end(program.input);
  const exited = new Promise<number | null>((resolve, reject) => {
    child.on('error', reject);
    child.on('exit', resolve);
  });
  const watch = new AbortController();
  // The run that lists the calls must not miss any.
  const quietMs = program.quietMs && program.quietMs * (isInjected ? 1 : 4);
  const quiet = untilQuiet(output, quietMs, isInjected, watch.signal);
  const first = await Promise.race([exited.then((status) => ({ status })), quiet]);
  watch.abort();
  const wasEnded = first === 'quiet';
  if (wasEnded && child.pid !== undefined) process.kill(-child.pid, 'SIGKILL');
  const status = wasEnded ? await exited.then(() => null) : first.status;
  const text = existsSync(output) ? readFileSync(output, 'utf8') : '';
  return { status, stderr, calls: parseTrace(text), wasEnded };
}

/** Resolves when the output has not grown for `quietMs`; never without a limit but the longest run. */
async function untilQuiet(
  output: string,
  quietMs: number | undefined,
  isInjected: boolean,
  signal: AbortSignal,
): Promise<'quiet'> {
  const startedAt = performance.now();
  let changedAt = startedAt;
  let seen = 0;
  while (!signal.aborted) {
    await sleep(pollMs);
    const text = existsSync(output) ? readFileSync(output, 'utf8') : '';
    // Until it has met its call, a program may take its time.
    const calls = isInjected && !text.includes('(INJECTED)') ? 0 : countChanges(text);
    if (calls !== seen) changedAt = performance.now();
    seen = calls;
    const now = performance.now();
    if (now - startedAt > maxRunMs) return 'quiet';
    if (quietMs !== undefined && seen > 0 && now - changedAt > quietMs) return 'quiet';
  }
  return 'quiet';
}

/** Polling an RPC and waking one's own threads is no activity. */
function countChanges(output: string): number {
  return output.split('\n').filter((line) => !/eventfd|<TCP|<UNIX|-get\\"/.test(line)).length;
}

/** Every state-changing call of one run, in order. */
export function findPoints(
  label: string,
  calls: readonly SystemCall[],
  directory: string,
): Point[] {
  const seen = new Map<string, number>();
  return calls
    .flatMap((call, index) => {
      if (!isStateChanging(call, directory)) return [];
      const key = keyOf(call, directory);
      const occurrence = (seen.get(key) ?? 0) + 1;
      seen.set(key, occurrence);
      return [{ name: '', call, key, occurrence, aims: aimsAt(calls, index) }];
    })
    .map((point, index) => ({ ...point, name: `${label}/${index + 1} ${point.key}` }));
}

function aimsAt(calls: readonly SystemCall[], index: number): Aim[] {
  const call = calls[index];
  if (call === undefined) return [];
  const before = calls
    .slice(0, index + 1)
    .filter(({ name, thread }) => name === call.name && thread === call.thread);
  // strace -P looks at the first path of rename(2) only.
  const visible = call.name.startsWith('rename') ? call.paths.slice(0, 1) : call.paths;
  const byPath = visible.filter(isFixedPath).map((path) => {
    const same = before.filter(({ name, paths }) =>
      (name.startsWith('rename') ? paths.slice(0, 1) : paths).includes(path),
    );
    return { path, when: same.length, allThreads: true };
  });
  const isFirstThread = call.thread === calls[0]?.thread;
  const byCount = { path: undefined, when: before.length, allThreads: !isFirstThread };
  return isFirstThread ? [byCount, ...byPath] : [...byPath, byCount];
}

/**
 * Runs the program again with an injection at one point, from the state that `restore` makes.
 * SIGKILL comes as the call is entered, before it takes effect (the kernel skips a call that a fatal
 * signal meets at its entry); the state after the call is that before the next one.
 *
 * @returns how it ended; undefined when no try met the very call
 */
export async function runInjected(
  program: Program,
  point: Point,
  injection: Injection,
  output: string,
  restore: () => Promise<void>,
): Promise<Ending | undefined> {
  const { name } = point.call;
  const what = injection === 'SIGKILL' ? 'signal=SIGKILL' : `error=${injection}`;
  const aims = [...point.aims];
  for (let tries = 0; tries < maxTries; tries += 1) {
    const aim = aims[tries];
    if (aim === undefined) return undefined;
    await restore();
    const ending = await runTraced(program, output, [
      ...['-e', `trace=${name}`, '-e', `inject=${name}:${what}:when=${aim.when}`],
      ...(aim.path === undefined ? [] : ['-P', aim.path]),
      ...(aim.allThreads ? allThreads : []),
    ]);
    if (isHit(ending.calls, point, injection, program.directory)) return ending;
    aims.push(...betterAims(ending.calls, point, aim, program.directory));
  }
  return undefined;
}

const maxTries = 6;

/** Whether the injection met this call, and no other one. */
function isHit(
  calls: readonly SystemCall[],
  point: Point,
  injection: Injection,
  directory: string,
): boolean {
  const hits = calls.filter((call) =>
    injection === 'SIGKILL' ? call.result.startsWith('?') : call.isInjected,
  );
  const [hit] = hits;
  if (hit === undefined || hits.length !== 1) return false;
  return hit === findCall(calls, point, directory);
}

function findCall(
  calls: readonly SystemCall[],
  { key, occurrence }: Point,
  directory: string,
): SystemCall | undefined {
  const same = calls.filter(
    (call) =>
      keyOf(call, directory) === key &&
      (call.isInjected || call.result.startsWith('?') || isStateChanging(call, directory)),
  );
  return same[occurrence - 1];
}

/** Position of the call in a run that missed it, or one further than that run got. */
function betterAims(
  calls: readonly SystemCall[],
  point: Point,
  { path, when, allThreads }: Aim,
  directory: string,
): Aim[] {
  const call = findCall(calls, point, directory);
  if (call === undefined) return [{ path, when: when + 1, allThreads }];
  const before = calls.slice(0, calls.indexOf(call) + 1);
  const own = before.filter(({ thread }) => thread === call.thread);
  return [{ path, when: own.length, allThreads }];
}
