import { accessSync, constants, realpathSync } from 'node:fs';
import { isAbsolute, join } from 'node:path';
import { programFile } from './build.ts';

/**
 * A command of this program as it can be pasted into a shell, for a hint: `p2p-update` where PATH leads
 * to this very program, else its absolute path. Another program of that name could do anything.
 *
 * @param words the command and its arguments, quoted here where a shell would read them otherwise
 */
export function commandHint(...words: readonly string[]): string {
  return shellCommand(programName(), ...words);
}

/** A command of the system as it can be pasted into a shell, for a hint. */
export function shellCommand(...words: readonly string[]): string {
  return words.map(quoteWord).join(' ');
}

/** `p2p-update` where PATH leads to this very program, else its absolute path. */
export function programName(): string {
  const file = programFile();
  const found = realPath(findOnPath('p2p-update'));
  return found !== null && found === realPath(file) ? 'p2p-update' : file;
}

/** The file that a shell would run; entries that depend on the working directory are passed over. */
function findOnPath(name: string): string | undefined {
  return (process.env['PATH'] ?? '')
    .split(':')
    .filter(isAbsolute)
    .map((directory) => join(directory, name))
    .find((file) => {
      try {
        accessSync(file, constants.X_OK);
        return true;
      } catch {
        return false;
      }
    });
}

/** A path without its links; null for one that leads nowhere. */
function realPath(path: string | undefined): string | null {
  try {
    return path === undefined ? null : realpathSync(path);
  } catch {
    return null;
  }
}

/** A word that a shell reads as it is; control characters, which a terminal would obey, are escaped (bash, zsh). */
export function quoteWord(word: string): string {
  if (/^[\w@%+=:,./-]+$/.test(word)) return word;
  if (!/[\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]/.test(word))
    return `'${word.replaceAll("'", `'\\''`)}'`;
  const escaped = word.replace(/[^ -&(-[\]-~]/g, (unit) =>
    [...Buffer.from(unit)].map((byte) => `\\x${byte.toString(16).padStart(2, '0')}`).join(''),
  );
  return `$'${escaped}'`;
}
