import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { waitFor } from '../run/wait-for.ts';

export interface DaemonSettings {
  namespace: string;
  command: readonly string[];
  env: Record<string, string>;
  /** Takes its stdout and stderr, appended. */
  logFile: string;
  /** The TCP port that it listens on when it is ready. */
  port: number;
}

/** One real daemon in a network namespace, which can be stopped and started again. */
export class Daemon {
  readonly logFile: string;
  readonly #settings: DaemonSettings;
  #child: ChildProcess | undefined;

  constructor(settings: DaemonSettings) {
    this.#settings = settings;
    this.logFile = settings.logFile;
  }

  /** Starts it, and returns when it listens. */
  async start(): Promise<void> {
    const { namespace, command, env, logFile, port } = this.#settings;
    const log = openSync(logFile, 'a');
    const child = spawn('ip', ['netns', 'exec', namespace, ...command], {
      env,
      cwd: '/',
      stdio: ['ignore', log, log],
      // Ctrl-C on a terminal is for us to handle.
      detached: true,
    });
    closeSync(log);
    this.#child = child;
    await waitFor(
      `${command[0]} listens on port ${port}`,
      () => {
        if (child.exitCode !== null || child.pid === undefined) {
          throw new Error(`${command.join(' ')} ended at once:\n${tail(logFile)}`);
        }
        return listens(child.pid, port);
      },
      undefined,
      () => tail(logFile),
    );
  }

  /** Whether it was started, and has not ended. */
  get isRunning(): boolean {
    return this.#child?.exitCode === null && this.#child.signalCode === null;
  }

  /** Sends it a signal, such as SIGSTOP. */
  signal(signal: NodeJS.Signals): void {
    this.#child?.kill(signal);
  }

  /** Ends it with a signal, and returns when it is gone. */
  async end(signal: NodeJS.Signals): Promise<void> {
    const child = this.#child;
    if (child === undefined || !this.isRunning) return;
    const exit = once(child, 'exit');
    child.kill(signal);
    await exit;
  }
}

/** The last lines of a file, each indented, under its name. */
export function tail(file: string, lines = 15): string {
  const last = readFileSync(file, 'utf8').trimEnd().split('\n').slice(-lines);
  return [`${file}:`, ...last.map((line) => `    ${line}`)].join('\n');
}

/** True when any process in the network namespace of `pid` listens on a TCP port. */
function listens(pid: number, port: number): boolean {
  const hex = port.toString(16).toUpperCase().padStart(4, '0');
  // proc(5), /proc/net/tcp: the second column is the local address, 0A is TCP_LISTEN.
  const pattern = new RegExp(`^ *\\d+: [0-9A-F]+:${hex} [0-9A-F]+:0000 0A `, 'm');
  return ['tcp', 'tcp6'].some((table) =>
    pattern.test(readFileSync(`/proc/${pid}/net/${table}`, 'utf8')),
  );
}
