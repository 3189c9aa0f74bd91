import { hasErrno } from '../../lib/errors.ts';

let isReady = false;

/**
 * Writes to standard output, which is opened by the first call: that takes longer than what a silent
 * command has to do. A reader that has gone, as of `p2p-update status | head`, is no fault, and what is
 * half done is finished all the same.
 */
export function print(text: string | Uint8Array): void {
  if (!isReady)
    process.stdout.on('error', (error) => {
      if (!hasErrno(error, 'EPIPE')) throw error;
    });
  isReady = true;
  process.stdout.write(text);
}

/** Lets a command that goes on by itself end together with the reader of its output. */
export function endWithReader(): void {
  process.stdout.once('error', () => process.exit());
}

/**
 * Ends the process at a signal with the exit status that it has by then. A terminal sends Ctrl-C to
 * Serf's command as well, whose failure is then no news.
 */
export function endBySignal(): void {
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
    process.once(signal, () => process.exit());
}
