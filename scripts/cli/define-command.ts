import { exitStatus, formatError } from '../../lib/errors.ts';
import { UnknownWordError } from './command-line.ts';
import { print } from './output.ts';

/** One command of the program, as `npm run build` makes a bundle of it. */
export interface Command {
  /** The text that `--help` prints. */
  help: string;
  /** Carries out the arguments. Never throws: see {@link defineCommand}. */
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

/**
 * A command as of {@link defineCommand} that prints its help, or carries out the request of its arguments.
 *
 * @param parse returns undefined for --help; throws UpdateError `usage`
 */
export function defineRequestCommand<T>(
  name: string,
  help: string,
  parse: (args: string[]) => T | undefined,
  run: (request: T) => Promise<void> | void,
): Command {
  return defineCommand(name, help, async (args) => {
    const request = parse(args);
    if (request === undefined) print(help);
    else await run(request);
  });
}

/** The same error, with the word that was probably meant; its library is loaded for such an error alone. */
async function withNearest(error: unknown): Promise<unknown> {
  if (!(error instanceof UnknownWordError)) return error;
  const { nearest } = await import('./nearest.ts');
  const meant = nearest(error.word, error.known);
  if (meant === undefined) return error;
  const { hint, word, known } = error;
  return new UnknownWordError(`${error.message}; ${meant} is the nearest`, { hint, word, known });
}
