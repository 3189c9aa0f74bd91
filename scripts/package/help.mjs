/** Reads the help texts of the built program, from which the man page and the completions are made. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

const run = promisify(execFile);

/**
 * The program's commands with their help, in the order of its own list.
 *
 * @param program path of the built program
 */
export async function readHelp(program) {
  const helpOf = async (...words) => {
    const { stdout } = await run(process.execPath, [program, 'help', ...words]);
    return parseHelp(stdout);
  };
  const top = await helpOf();
  const names = top.blocks.filter(({ kind }) => kind === 'item');
  const commands = await Promise.all(
    names.map(async ({ term, text }) => ({
      name: term,
      summary: text,
      // help shows the list itself.
      ...(term === 'help'
        ? {
            usage: ['p2p-update help [COMMAND]'],
            blocks: [
              { kind: 'text', text: `Prints the list of commands, or the usage of COMMAND.` },
            ],
          }
        : await helpOf(term)),
    })),
  );
  return { top, commands: commands.map((command) => ({ ...command, ...completionOf(command) })) };
}

/** The usage lines of a help text, and after them its paragraphs, headings and items with two columns. */
export function parseHelp(text) {
  const lines = text.trimEnd().split('\n');
  const end = lines.indexOf('');
  const usage = lines.slice(0, end).map((line) => line.replace(/^(Usage: | {7})/, ''));
  const blocks = [];
  let last;
  const begin = (block) => blocks.push((last = block));
  for (const line of lines.slice(end + 1)) {
    const item = /^ {2}(\S.*?)(?: {2,}(\S.*))?$/.exec(line);
    if (line === '') last = undefined;
    else if (item !== null) begin({ kind: 'item', term: item[1], text: item[2] ?? '' });
    else if (/^\w+:$/.test(line)) begin({ kind: 'heading', text: line.slice(0, -1) });
    else if (line.startsWith('   ') && last?.kind === 'item')
      last.text = `${last.text} ${line.trim()}`.trim();
    else if (/^\S/.test(line) && last?.kind === 'text') last.text += ` ${line}`;
    else begin({ kind: 'text', text: line.trim() });
  }
  return { usage, blocks };
}

/** Options, sub-commands and operands of a command, for the completions. */
function completionOf({ name, usage, blocks }) {
  const options = new Map();
  const note = (text, summary) => {
    const found = /^\[?(--[a-z][a-z-]*)(?:[ =]\[?([A-Z][\w=,.-]*|[a-z],[a-z]))?/.exec(text);
    if (found === null) return;
    const [, option, value] = found;
    if (options.get(option)?.summary !== undefined) return;
    options.set(option, {
      option,
      summary,
      value,
      isOptional: text.includes(`${option} [`),
      isRepeatable: /several times|repeatable/.test(summary ?? ''),
    });
  };
  for (const { kind, term, text } of blocks) if (kind === 'item') note(term, text);
  for (const line of usage)
    for (const found of line.matchAll(/--[a-z][a-z-]*(?:[ =]\[?[A-Z]\w*)?/g)) note(found[0]);
  const words = usage
    .filter((line) => line.startsWith(`p2p-update ${name}`))
    .map((line) => line.replace(`p2p-update ${name}`, '').trim());
  return {
    options: [...options.values()],
    subcommands: [...new Set(words.flatMap((line) => /^[a-z]+\b/.exec(line) ?? []))],
    takesFiles: words.some((line) => isFile(line.replace(/--[a-z-]+ \S+/g, ''))),
  };
}

/** Whether a placeholder stands for a file or a directory. */
export function isFile(placeholder = '') {
  return /\b(FILE|DIR|DIRECTORY|PROPOSAL)\b|\.(pem|pub)\b/.test(placeholder);
}
