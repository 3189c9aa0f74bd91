import { parseArgs, type ParseArgsConfig } from 'node:util';
import { UpdateError, describeError } from '../../lib/errors.ts';

/** How the scripts read their arguments, and refuse them. */
export interface CommandLine {
  /** As util.parseArgs; throws UpdateError `usage`. */
  parse: <const T extends ParseArgsConfig>(config: T) => ReturnType<typeof parseArgs<T>>;
  /** What to throw for arguments that mean nothing. */
  usage: (message: string, cause?: unknown) => UpdateError;
}

/** @param command what a person typed, to which `--help` can be added */
export function commandLine(command: string): CommandLine {
  const usage: CommandLine['usage'] = (message, cause) =>
    new UpdateError('usage', message, { hint: `${command} --help shows the usage`, cause });
  return {
    usage,
    parse(config) {
      try {
        return parseArgs(config);
      } catch (error) {
        throw usage(describeError(error));
      }
    },
  };
}
