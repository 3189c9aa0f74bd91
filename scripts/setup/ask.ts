import { spawnSync } from 'node:child_process';
import { closeSync, openSync, readSync, writeSync } from 'node:fs';
import { UpdateError } from '../../lib/errors.ts';

/** The terminal of the person, whatever standard input is: that may be the invitation. */
function openTerminal(): number | undefined {
  try {
    return openSync('/dev/tty', 'r+');
  } catch {
    return undefined;
  }
}

/** Whether a person can be asked. */
export function hasTerminal(): boolean {
  const terminal = openTerminal();
  if (terminal !== undefined) closeSync(terminal);
  return terminal !== undefined;
}

/**
 * Asks for one line on the terminal; the empty text at its end.
 *
 * @throws UpdateError `usage` where there is none
 */
export function ask(question: string): string {
  return onTerminal((terminal) => readLine(terminal, question));
}

/** Asks for a line that is not shown while it is typed. */
export function askSecret(question: string): string {
  return onTerminal((terminal) => {
    const stty = (...args: string[]) =>
      spawnSync('stty', args, { stdio: [terminal, 'pipe', 'ignore'], encoding: 'utf8' });
    // Non-canonical too: the terminal cuts a line at 4,095 characters otherwise (N_TTY_BUF_SIZE).
    const before = stty('-g').stdout.trim();
    stty('-echo', '-icanon');
    try {
      return readLine(terminal, question);
    } finally {
      if (before !== '') stty(before);
      writeSync(terminal, '\n');
    }
  });
}

function onTerminal<T>(work: (terminal: number) => T): T {
  const terminal = openTerminal();
  if (terminal === undefined)
    throw new UpdateError('usage', 'there is no terminal to ask on', {
      hint: 'give it by options: p2p-update setup --help',
    });
  try {
    return work(terminal);
  } finally {
    closeSync(terminal);
  }
}

function readLine(terminal: number, question: string): string {
  writeSync(terminal, question);
  const bytes = Buffer.alloc(1);
  const line: number[] = [];
  while (readSync(terminal, bytes) === 1) {
    const byte = bytes[0] ?? 0;
    if (byte === 0x0a || byte === 0x0d || byte === 0x04) break;
    line.push(byte);
  }
  return Buffer.from(line).toString('utf8').trim();
}
