import { basename, dirname, join, resolve } from 'node:path';
import { isContentName } from '../announcement/fields.ts';
import { programName, quoteWord, shellCommand } from '../command-hint.ts';
import type { ContentKind } from '../announcement/fields.ts';
import { packAsFile, PackedContent, UnclearKind } from '../content/detect-kind.ts';
import { deliverAsFile } from '../content/peek.ts';
import { FaultyContent, type Remedy } from '../content/faults.ts';
import type { Format } from '../content/format.ts';
import { UpdateError } from '../errors.ts';

/** The words of a command that a person typed. */
export interface Typed {
  file: string;
  /** All words after `submit`, with the file; without them it is the file alone. */
  words?: readonly string[] | undefined;
}

/**
 * A `submit` command like the one that was typed, all its other options kept: a target that got lost on the
 * way would be the whole fleet.
 *
 * @param changes.file as a shell reads it, such as `"$d"/site`
 */
export function submitAgain(
  typed: Typed,
  changes: { kind?: ContentKind | undefined; name?: string; file?: string },
): string {
  const words = [...(typed.words ?? [typed.file])];
  const isNamed = words.some((word) => /^--name(=|$)/.test(word));
  if (changes.kind !== undefined) remove(words, '--kind');
  if (changes.name !== undefined) remove(words, '--name');
  const name = changes.name ?? (isNamed ? undefined : neededName(typed.file, changes.file));
  const added = [
    ...(changes.kind === undefined ? [] : ['--kind', changes.kind]),
    ...(name === undefined ? [] : ['--name', name]),
  ];
  const at = words.lastIndexOf(typed.file);
  const shown = words.map((word, index) =>
    index === at && changes.file !== undefined ? changes.file : quoteWord(word),
  );
  return [quoteWord(programName()), 'submit', ...added, ...shown].join(' ');
}

/** Takes out an option with a value, in both of its forms. */
function remove(words: string[], option: string): void {
  for (
    let at: number;
    (at = words.findIndex((word) => word === option || word.startsWith(`${option}=`))) >= 0;
  )
    words.splice(at, words[at] === option ? 2 : 1);
}

/** A name to announce, where that of the file cannot be. */
function neededName(file: string, replaced: string | undefined): string | undefined {
  if (replaced !== undefined) return undefined;
  const own = basename(resolve(file));
  return isContentName(own) ? undefined : fittingName(own);
}

/** A name like the given one that can be announced. */
export function fittingName(name: string): string {
  const fitting = name
    .normalize('NFKD')
    .replace(/[^A-Za-z0-9._+-]+/g, '-')
    .replace(/^[^A-Za-z0-9]+/, '')
    .slice(-64);
  return isContentName(fitting) ? fitting : 'update.bin';
}

/**
 * Gives an error about content the hint with commands that go on from there, for this very file and these
 * options.
 *
 * @param kind what a person has said that it is
 */
export function withCommands(error: UpdateError, typed: Typed, kind?: ContentKind): UpdateError {
  const hint = hintFor(error, typed, kind);
  if (hint === undefined) return error;
  const cause = error.cause === undefined ? {} : { cause: error.cause };
  return new UpdateError(error.code, error.message, { hint, ...cause });
}

function hintFor(error: UpdateError, typed: Typed, kind?: ContentKind): string | undefined {
  if (error instanceof UnclearKind) {
    const { kinds, format } = error;
    const ways = kinds.map(({ kind: possible, trouble }) => {
      if (trouble === undefined) return submitAgain(typed, { kind: possible });
      // A comment, so that the line can be pasted all the same.
      return (
        mend(trouble, typed, possible) ??
        `${submitAgain(typed, { kind: possible })}  # first ${trouble.hint}`
      );
    });
    if (format !== undefined) ways.unshift(...unpackCommand(format, typed));
    return ['say which it is:', ...ways].join('\n  ');
  }
  if (error.hint.endsWith(deliverAsFile))
    return `${error.hint}: ${submitAgain(typed, { kind: 'file' })}`;
  if (error.hint.endsWith(packAsFile)) return `${error.hint}: ${packCommand(typed)}`;
  const mended = mend(error, typed, kind);
  return mended === undefined ? undefined : `submit a copy without these faults: ${mended}`;
}

/** A command that makes content which nodes take, and submits that. */
function mend(error: UpdateError, typed: Typed, kind?: ContentKind): string | undefined {
  if (error instanceof PackedContent) return unpackCommand(error.format, typed, kind)[0];
  if (!(error instanceof FaultyContent) || error.remedy === undefined) return undefined;
  return error.source === 'directory'
    ? copyDirectory(typed, error.remedy, kind)
    : unpackArchive(typed, error, error.remedy, kind);
}

const makeDirectory = 'd=$(mktemp -d)';

/** Decompresses a file; tar and zip alone are read by nodes, and gzip around tar. */
function unpackCommand(format: Format, typed: Typed, kind?: ContentKind): string[] {
  if (format.decompressor === undefined) return [];
  const own = basename(typed.file).replace(
    /\.(t?[gx]z|t?bz2?|tbz2|t?zst|t?lz|lz4|lzma|Z|taz)$/i,
    '',
  );
  const isTar =
    /\.(t\w+)$/i.test(basename(typed.file)) && !/\.tar$/i.test(own) && !/\.pp$/i.test(own);
  const name = isTar ? `${own}.tar` : own;
  const target = `"$d"/${quoteWord(name)}`;
  const command = `${shellCommand(...format.decompressor)} < ${quoteWord(typed.file)} > ${target}`;
  return [`${makeDirectory} && ${command} && ${submitAgain(typed, { kind, file: target })}`];
}

/** Packs a directory into one file, for what is no code. */
function packCommand(typed: Typed): string {
  const directory = resolve(typed.file);
  const name = basename(directory);
  const target = `"$d"/${quoteWord(`${name}.tar.gz`)}`;
  const pack = shellCommand('tar', '-C', dirname(directory), '-czf');
  return `${makeDirectory} && ${pack} ${target} -- ${quoteWord(name)} && ${submitAgain(typed, { kind: 'file', file: target })}`;
}

/** Unpacks an archive without what nodes refuse, and submits the directory. */
function unpackArchive(
  typed: Typed,
  { root, source }: FaultyContent,
  { excludes, copiesLinks }: Remedy,
  // An archive that is taken without a word is a module by its name.
  kind: ContentKind = 'module',
): string {
  const file = quoteWord(typed.file);
  const unpack =
    source === 'zip'
      ? [
          'unzip',
          '-q',
          file,
          '-d',
          '"$d"',
          ...(excludes.length > 0 ? ['-x', ...zipPatterns(excludes)] : []),
        ]
      : ['tar', '-C', '"$d"', ...tarExcludes(excludes), '-xf', file];
  const at = root === '' ? '"$d"' : `"$d"/${quoteWord(root)}`;
  const copied = `"$d".copy/${quoteWord(basename(root === '' ? 'content' : root))}`;
  const copy = copiesLinks ? ` && mkdir "$d".copy && cp -rL ${at} ${copied}` : '';
  return `${makeDirectory} && ${unpack.join(' ')}${copy} && ${submitAgain(typed, { kind, file: copiesLinks ? copied : at })}`;
}

function copyDirectory(
  typed: Typed,
  { excludes, copiesLinks }: Remedy,
  kind?: ContentKind,
): string {
  const directory = resolve(typed.file);
  const name = quoteWord(basename(directory));
  // Only without the links that lead round in a circle can tar follow the others.
  const pack = [
    ...['tar', '-C', quoteWord(dirname(directory)), ...tarExcludes(excludes)],
    ...(copiesLinks ? ['--dereference'] : []),
    ...['-cf', '-', name],
  ];
  const source = join('"$d"', name);
  return `${makeDirectory} && ${pack.join(' ')} | tar -C "$d" -xf - && ${submitAgain(typed, { kind, file: source })}`;
}

const tarExcludes = (excludes: readonly string[]): string[] =>
  excludes.map((path) => `--exclude=${quoteWord(path)}`);

const zipPatterns = (excludes: readonly string[]): string[] =>
  excludes.flatMap((path) => (path === 'spec' ? ["'spec/*'", "'*/spec/*'"] : [quoteWord(path)]));
