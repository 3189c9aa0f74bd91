import { spawn } from 'node:child_process';
import { readFileSync, readdirSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { hasErrno } from '../../lib/errors.ts';
import { readText } from './read-text.ts';

/** Calls after which a program is stopped: those that order the writes to a disk. */
const calls = [
  'fsync,fdatasync,rename,renameat,renameat2,link,linkat,symlink,symlinkat',
  'unlink,unlinkat,mkdir,mkdirat',
]
  .flatMap((line) => line.split(','))
  .map((name) => `?${name}`)
  .join(',');

const stopped = '--- stopped by SIGSTOP ---';
/** Message of strace 6.1 when it takes a stop that was cut short for an unknown one, as it does now and then. */
const straceFault = 'strace: Unexpected wait status';
const pollMs = 3;
const longestMs = 120_000;

/** End of a program by itself. */
export interface Ended {
  status: number | null;
  stderr: string;
}

/**
 * Runs a program, and stops it after each call that changes names on a disk or flushes something. A
 * signal that meets a call at its entry is delivered after it.
 *
 * @param trace a file for strace's output
 * @param onPause called while it is stopped, with the number of pauses before; it then goes on
 * @returns how it ended; 'not traced' when strace gave up, and the program was killed with it
 */
export async function runWithPauses(
  argv: readonly string[],
  env: Record<string, string>,
  trace: string,
  onPause: (index: number) => void,
): Promise<Ended | 'not traced'> {
  const options = ['-f', '-b', 'execve', '-o', trace, '-e', `trace=${calls}`];
  const injection = ['-e', `inject=${calls}:signal=SIGSTOP`];
  const child = spawn('strace', [...options, ...injection, '--', ...argv], {
    env,
    cwd: '/',
    stdio: ['ignore', 'ignore', 'pipe'],
    detached: true,
  });
  let stderr = '';
  child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
  let status: number | null | undefined;
  child.on('exit', (code) => (status = code));
  const exited = new Promise((resolve) => child.once('exit', resolve));
  const deadline = performance.now() + longestMs;
  const { pid } = child;
  if (pid === undefined) throw new Error('strace cannot be started');
  let seen = 0;
  let pauses = 0;
  while (status === undefined) {
    if (performance.now() > deadline) {
      process.kill(-pid, 'SIGKILL');
      throw new Error(`${argv.join(' ')} does not end`);
    }
    const stops = (readText(trace)?.split(stopped).length ?? 1) - 1;
    if (stops === seen || !childrenOf(pid).every(isStopped)) {
      await Promise.race([exited, delay(pollMs)]);
      continue;
    }
    seen = stops;
    onPause(pauses);
    pauses += 1;
    signalGroup(pid, 'SIGCONT');
  }
  if (stderr.includes(straceFault)) {
    signalGroup(pid, 'SIGKILL');
    return 'not traced';
  }
  return { status, stderr };
}

function childrenOf(pid: number): number[] {
  const text = readText(`/proc/${pid}/task/${pid}/children`) ?? '';
  return text.split(' ').filter(Boolean).map(Number);
}

function isStopped(pid: number): boolean {
  try {
    return readdirSync(`/proc/${pid}/task`).every((thread) => {
      const stat = readFileSync(`/proc/${pid}/task/${thread}/stat`, 'utf8');
      return /^[tT]/.test(stat.slice(stat.lastIndexOf(')') + 2));
    });
  } catch (error) {
    if (hasErrno(error, 'ENOENT', 'ESRCH')) return false;
    throw error;
  }
}

function signalGroup(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(-pid, signal);
  } catch (error) {
    if (!hasErrno(error, 'ESRCH')) throw error;
  }
}
