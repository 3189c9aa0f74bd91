import { parseArgs, type ParseArgsConfig } from 'node:util';
import { commandHint } from '../../lib/command-hint.ts';
import { UpdateError } from '../../lib/errors.ts';
import { printable } from '../../lib/system/printable.ts';

/** Reader of a command's arguments, with the errors for those that it refuses. */
export interface CommandLine {
  /** Reads arguments as util.parseArgs does; throws UpdateError `usage`. */
  parse: <const T extends ParseArgsConfig & { args: string[] }>(
    config: T,
  ) => ReturnType<typeof parseArgs<T>>;
  /** Error for arguments that have no meaning. */
  usage: (message: string, cause?: unknown) => UpdateError;
  /** Error for a word that is not among the known ones. */
  unknownWord: (what: string, word: string, known: readonly string[]) => UnknownWordError;
}

/** An unknown word with the known ones; the nearest is looked up when the error is printed. */
export class UnknownWordError extends UpdateError {
  readonly word: string;
  readonly known: readonly string[];

  constructor(message: string, options: { hint: string; word: string; known: readonly string[] }) {
    super('usage', message, options);
    this.word = options.word;
    this.known = options.known;
  }
}

/**
 * The command line of one command of the program.
 *
 * @param moved options that have become commands, and the command for each
 */
export function commandLine(command: string, moved: Readonly<Record<string, string>> = {}) {
  return commandLineOf(() => commandHint(command, '--help'), moved);
}

/**
 * The command line of a program, or of one of its commands: {@link commandLine}.
 *
 * @param help makes the command that shows the usage
 */
export function commandLineOf(
  help: () => string,
  moved: Readonly<Record<string, string>> = {},
): CommandLine {
  const usage: CommandLine['usage'] = (message, cause) =>
    new UpdateError('usage', message, { hint: help(), cause });
  const unknownWord: CommandLine['unknownWord'] = (what, word, known) =>
    new UnknownWordError(`there is no ${what} ${shown(word)}`, { hint: help(), word, known });

  /** Refuses the arguments that util.parseArgs would, whose messages give advice that does not fit here. */
  const check = ({ args, options = {}, allowPositionals = false }: Checked): void => {
    const { tokens } = parseArgs({
      args,
      options,
      strict: false,
      allowPositionals: true,
      tokens: true,
    });
    for (const token of tokens) {
      if (token.kind !== 'option' || !Object.hasOwn(moved, token.name)) continue;
      const instead = moved[token.name] ?? '';
      throw new UpdateError('usage', `${token.rawName} is a command of its own now, ${instead}`, {
        hint: commandHint(instead, ...args.filter((each) => each !== token.rawName)),
      });
    }
    for (const token of tokens) {
      if (token.kind === 'positional' && !allowPositionals)
        throw usage(`${shown(token.value)} has no meaning here`);
      if (token.kind !== 'option') continue;
      const { name, rawName, value, inlineValue } = token;
      // hasOwn: --constructor is a property of every object, and no option.
      if (!Object.hasOwn(options, name))
        throw unknownWord(
          'option',
          rawName,
          Object.keys(options).map((each) => `--${each}`),
        );
      if (options[name]?.type === 'boolean') {
        if (value !== undefined) throw usage(`${rawName} takes no value, not ${shown(value)}`);
      } else if (value === undefined) throw usage(`${rawName} needs a value`);
      else if (!inlineValue && /^-./.test(value))
        throw usage(
          `${rawName} needs a value, and ${shown(value)} looks like an option; if it is meant: ${rawName}=…`,
        );
    }
  };

  return {
    usage,
    unknownWord,
    parse(config) {
      check(config);
      return parseArgs(config);
    },
  };
}

type Checked = ParseArgsConfig & { args: string[] };

/** A word as it was typed, quoted where it is not plain. */
function shown(word: string): string {
  return /^[\w@.=-]+$/.test(word) ? word : `"${printable(word)}"`;
}
