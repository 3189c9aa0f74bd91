import { spawn, spawnSync, type StdioOptions } from 'node:child_process';

/** How a command ended. */
export interface CommandResult {
  /** Null when a signal ended it. */
  status: number | null;
  stdout: string;
  stderr: string;
}

export interface CommandOptions {
  /** The whole environment; without it our own. */
  env?: NodeJS.ProcessEnv;
  cwd?: string;
  /** Without it the standard input is empty. */
  input?: string | Buffer;
  /** After this time the command is killed, and that is an error; two minutes unless told. */
  timeoutMs?: number;
}

/** Far more than any command of a test takes on a machine with ten busy processes a core. */
const defaultTimeoutMs = 120_000;
const maxOutputBytes = 2 ** 28;

function noEnd(argv: readonly string[], timeoutMs: number, output: string): Error {
  return new Error(`${argv.join(' ')}: no end after ${timeoutMs} ms\n${output}`);
}

/**
 * Runs a command to its end, and takes what it prints. A status other than 0 is no error; a command that
 * cannot be started, or does not end in time, is. Everything that it has started is ended with it then.
 */
export function run(argv: readonly string[], options: CommandOptions = {}): Promise<CommandResult> {
  const { env, cwd, input = '', timeoutMs = defaultTimeoutMs } = options;
  const [command = '', ...args] = argv;
  return new Promise((resolve, reject) => {
    // A group of its own, to be ended as a whole.
    const child = spawn(command, args, { env: env ?? process.env, cwd, detached: true });
    const stdout: Buffer[] = [];
    const stderr: Buffer[] = [];
    const textOf = (chunks: readonly Buffer[]): string => Buffer.concat(chunks).toString();
    const timer = setTimeout(() => {
      if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL');
      reject(noEnd(argv, timeoutMs, textOf([...stdout, ...stderr])));
    }, timeoutMs);
    child.stdout.on('data', (chunk: Buffer) => stdout.push(chunk));
    child.stderr.on('data', (chunk: Buffer) => stderr.push(chunk));
    // A command that does not read its input is no fault here.
    child.stdin.on('error', () => undefined);
    child.stdin.end(input);
    child.on('error', (error) => {
      clearTimeout(timer);
      reject(error);
    });
    child.on('close', (status) => {
      clearTimeout(timer);
      resolve({ status, stdout: textOf(stdout), stderr: textOf(stderr) });
    });
  });
}

/** The same, while nothing else goes on in this process. */
export function runSync(
  argv: readonly string[],
  options: CommandOptions & { stdio?: StdioOptions } = {},
): CommandResult {
  const { timeoutMs = defaultTimeoutMs, input = '', stdio, ...rest } = options;
  const [command = '', ...args] = argv;
  const { status, stdout, stderr, error } = spawnSync(command, args, {
    ...rest,
    ...(stdio === undefined ? { input } : { stdio }),
    encoding: 'utf8',
    timeout: timeoutMs,
    killSignal: 'SIGKILL',
    maxBuffer: maxOutputBytes,
  });
  // A command that does not read its input is no fault here.
  if (error !== undefined && !('code' in error && error.code === 'EPIPE')) {
    if ('code' in error && error.code === 'ETIMEDOUT')
      throw noEnd(argv, timeoutMs, `${stdout}${stderr}`);
    throw error;
  }
  return { status, stdout, stderr };
}

/** The same for what a test needs and does not test: returns the output, and throws unless the status is 0. */
export function mustRun(argv: readonly string[], options: CommandOptions = {}): string {
  const { status, stdout, stderr } = runSync(argv, options);
  if (status !== 0) throw new Error(`${argv.join(' ')}: status ${status}\n${stdout}${stderr}`);
  return stdout;
}
