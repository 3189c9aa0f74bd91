import { exitStatus, formatError } from '../../lib/errors.ts';
import { UnknownWordError } from './command-line.ts';

/** One command of the program, as `npm run build` makes a bundle of it. */
export interface Command {
  /** What `--help` prints. */
  help: string;
  /** Does what the arguments ask for. Never throws: see {@link defineCommand}. */
  run: (args: string[]) => Promise<void>;
}

/**
 * A command whose errors end in the one place for all: they are printed as `NAME: error: …` and
 * `NAME: hint: …`, and set the exit status.
 *
 * @param run throws UpdateError; sets process.exitCode where another status than 0 is no error
 */
export function defineCommand(
  name: string,
  help: string,
  run: (args: string[]) => Promise<void> | void,
): Command {
  return {
    help,
    async run(args) {
      try {
        await run(args);
      } catch (error) {
        process.stderr.write(formatError(name, await withNearest(error)));
        process.exitCode = exitStatus(error);
      }
    },
  };
}

/** The same error, with the word that was probably meant. Its library is read for such an error alone. */
async function withNearest(error: unknown): Promise<unknown> {
  if (!(error instanceof UnknownWordError)) return error;
  const { nearest } = await import('./nearest.ts');
  const meant = nearest(error.word, error.known);
  if (meant === undefined) return error;
  const { hint, word, known } = error;
  return new UnknownWordError(`${error.message}; ${meant} is the nearest`, { hint, word, known });
}
