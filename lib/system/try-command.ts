import { execFile } from 'node:child_process';
import { constants } from 'node:os';

/** The end of a command: `missing` when there is no such program. */
export interface CommandEnd {
  kind: 'ended' | 'timed-out' | 'missing';
  /** Exit status, or 128 and the number of the signal, as a shell has it; null unless it ended. */
  status: number | null;
  stdout: string;
  stderr: string;
}

/** Runs a short command, never throws, and kills it when the time is over. */
export function tryCommand(
  argv: readonly string[],
  options: { timeoutMs: number; env?: Readonly<Record<string, string>> },
): Promise<CommandEnd> {
  const [command = '', ...args] = argv;
  const { timeoutMs, env } = options;
  return new Promise((resolve) => {
    const limits = { timeout: timeoutMs, killSignal: 'SIGKILL', maxBuffer: 2 ** 20 } as const;
    const child = execFile(
      command,
      args,
      { ...limits, cwd: '/', ...(env && { env }) },
      (error, stdout, stderr) => {
        const end = { stdout, stderr };
        if (error === null) resolve({ kind: 'ended', status: 0, ...end });
        else if (error.killed === true) resolve({ kind: 'timed-out', status: null, ...end });
        else if (typeof error.code === 'number')
          resolve({ kind: 'ended', status: error.code, ...end });
        else if (typeof error.signal === 'string')
          resolve({ kind: 'ended', status: 128 + constants.signals[error.signal], ...end });
        else resolve({ kind: 'missing', status: null, ...end });
      },
    );
    child.stdin?.end();
  });
}
