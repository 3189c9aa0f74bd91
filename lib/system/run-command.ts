import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { constants, fchmodSync, openSync, closeSync, writeSync } from 'node:fs';
import { access } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { endProcessGroup, readProcess, runVariable, runId } from './process-group.ts';
import type { ProcessIdentity } from './process-group.ts';

/** Limit on a run's log: a talkative manifest must not fill the disk. */
export const maxLogBytes = 4 * 1024 * 1024;

/** Of the output, so much of its beginning and of its end is returned. */
const maxOutputChars = 32 * 1024;

/**
 * Shell program that reads one line, the run's mark, and then becomes the command. So nothing runs
 * before its identity is on record, and when this process dies first, `read` meets the end of the pipe
 * and nothing runs at all. A constant: the command and its arguments come as "$@", never as text. umask
 * 022, because ours is 077 and the files that Puppet creates must not depend on that.
 */
const gate = `read -r ${runVariable} && export ${runVariable} && umask 022 && exec "$@" </dev/null 2>&1`;

export interface RunOptions {
  /** Absolute path of the program. */
  command: string;
  args: readonly string[];
  cwd: string;
  /** The whole environment; nothing is inherited. */
  env: Readonly<Record<string, string>>;
  /** File that the output is appended to, created with mode 0600; null for none. */
  logFile: string | null;
  timeoutMs: number;
  /** Called before the command begins, which waits for it, and does not begin at all if it throws. */
  onStart?: ((identity: ProcessIdentity) => void | Promise<void>) | undefined;
}

export interface RunOutcome {
  exitCode: number | null;
  signal: NodeJS.Signals | null;
  timedOut: boolean;
  /** Standard output and standard error as they came; of a long one 32 Ki characters at either end. */
  output: string;
  identity: ProcessIdentity;
}

/** Finds an executable as execvp(3) does, along `path`; undefined when there is none. */
export async function findCommand(command: string, path: string): Promise<string | undefined> {
  const candidates = command.includes('/')
    ? [command]
    : path.split(delimiter).map((directory) => join(directory, command));
  for (const candidate of candidates) {
    const isExecutable = await access(candidate, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (isExecutable) return candidate;
  }
  return undefined;
}

/**
 * Runs a command as the leader of a session and process group of its own, without a terminal or
 * standard input. When `timeoutMs` is over, everything that it started is ended. Background children
 * of a command that ended in time are left alone: they may be services.
 *
 * @throws the errors of `onStart` (the command has not begun then), and file system errors of the log
 */
export async function runCommand(options: RunOptions): Promise<RunOutcome> {
  const { command, args, cwd, env, logFile, timeoutMs, onStart } = options;
  const log = logFile === null ? null : openLog(logFile);
  try {
    log?.write(`$ ${[command, ...args].join(' ')}\n`);
    const child = spawn('/bin/sh', ['-c', gate, 'p2p-update', command, ...args], {
      cwd,
      env,
      detached: true,
      stdio: ['pipe', 'pipe', 'ignore'],
    });
    // Attached at once: a listener that comes after the event would wait for ever.
    const exited = once(child, 'exit') as Promise<[number | null, NodeJS.Signals | null]>;
    const closed = once(child, 'close');
    // Where it cannot be started both reject; `exited` is awaited below.
    for (const event of [exited, closed]) event.catch(() => undefined);
    let head = '';
    let tail = '';
    child.stdout.on('data', (chunk: Buffer) => {
      const text = chunk.toString();
      if (head.length < maxOutputChars) head += text;
      else tail = `${tail}${text}`.slice(-maxOutputChars);
      log?.write(chunk);
    });
    // EPIPE, when the gate is gone: its exit says enough.
    child.stdin.on('error', () => undefined);

    let identity: ProcessIdentity;
    try {
      identity = await identify(child.pid);
      await onStart?.(identity);
      child.stdin.end(`${runId(identity)}\n`);
    } catch (error) {
      child.stdin.end();
      await exited;
      throw error;
    }

    let ending: Promise<void> | undefined;
    let timer: NodeJS.Timeout | undefined;
    const stuck = new Promise<never>((_resolve, reject) => {
      const end = (): void => {
        ending = endProcessGroup(identity);
        ending.catch(reject);
      };
      // A longer delay overflows, to one millisecond.
      timer = setTimeout(end, Math.min(timeoutMs, 2 ** 31 - 1));
    });
    const [exitCode, signal] = await Promise.race([exited, stuck]).finally(() => {
      clearTimeout(timer);
    });
    await ending;
    // A command that was killed from outside cannot end its children any more.
    if (signal !== null) await endProcessGroup(identity);
    // 'close' waits for every holder of the pipe, a background child too: do not.
    await Promise.race([closed, delay(1_000, undefined, { ref: false })]);
    child.stdout.destroy();
    const timedOut = ending !== undefined;
    if (timedOut) log?.write(`\n[ended after ${timeoutMs / 1000} s]\n`);
    return { exitCode, signal, timedOut, output: `${head}${tail}`, identity };
  } finally {
    log?.close();
  }
}

/** Reads the identity of a child that waits at the gate, so that its line in /proc is there. */
async function identify(pid: number | undefined): Promise<ProcessIdentity> {
  const stat = pid === undefined ? undefined : await readProcess(pid);
  if (stat === undefined) throw new Error('a process that was started is not in /proc');
  return { processGroup: stat.pid, startTime: stat.startTime };
}

function openLog(path: string): { write(data: string | Buffer): void; close(): void } {
  const { O_WRONLY, O_CREAT, O_APPEND, O_NOFOLLOW } = constants;
  const fd = openSync(path, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW, 0o600);
  fchmodSync(fd, 0o600);
  let left = maxLogBytes;
  return {
    write(data) {
      if (left <= 0) return;
      const bytes = Buffer.from(data);
      try {
        writeSync(fd, bytes.subarray(0, left));
        left -= bytes.length;
        if (left <= 0) writeSync(fd, `\n[the output beyond ${maxLogBytes} bytes is not kept]\n`);
      } catch {
        // A full disk must not end a run half-way: the log ends instead.
        left = 0;
      }
    },
    close() {
      closeSync(fd);
    },
  };
}
