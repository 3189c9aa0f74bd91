import { constants } from 'node:os';
import { hasErrno } from '../../lib/errors.ts';

let isReady = false;

/**
 * Writes to standard output, which the first call opens: that takes longer than all the work of a silent
 * command. A reader that has gone (EPIPE, as of `p2p-update status | head`) is no error, and the command
 * finishes its work.
 */
export function print(text: string | Uint8Array): void {
  if (!isReady)
    process.stdout.on('error', (error) => {
      if (!hasErrno(error, 'EPIPE')) throw error;
    });
  isReady = true;
  process.stdout.write(text);
}

/** JSON in ASCII: control characters above 0x7f, which JSON lets pass, steer some terminals. */
export function asciiJson(value: unknown): string {
  return JSON.stringify(value).replace(
    /[^ -~]/g,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

/** Prints a value as one line of JSON, in ASCII. */
export function printJson(value: unknown): void {
  print(`${asciiJson(value)}\n`);
}

/** Ends a command that runs until it is stopped (--watch) as soon as the reader of its output has gone. */
export function endWithReader(): void {
  process.stdout.once('error', () => process.exit());
}

/**
 * Ends a command that runs until it is stopped (--watch) at a signal, with the exit status that it has by
 * then, and that of a death by the signal (128 and its number) where it has none.
 */
export function endBySignal(): void {
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
    process.once(signal, () => process.exit(process.exitCode ?? 128 + constants.signals[signal]));
}
