import { printable } from '../../system/printable.ts';

/** A message of Puppet: the text after its level, with the lines below it that have none. */
interface Message {
  /** `Error`, `Notice` and so on; '' for text that is no message of Puppet, such as a Ruby exception. */
  level: string;
  text: string;
}

/** A message about a resource, such as `File[/etc/motd]`. */
interface ResourceMessage {
  resource: string;
  text: string;
}

/** Limit for the record of an outcome; the run's log has all. */
const maxNoopChanges = 100;
/** A status shows some 80 characters of a reason: a whole command as title must leave room for its fault. */
const maxResourceChars = 40;

const levelPattern = /^(Debug|Info|Notice|Warning|Error|Err|Alert|Emerg|Critical|Crit): /;
const errorLevels: readonly string[] = ['Error', 'Err', 'Alert', 'Emerg', 'Critical', 'Crit'];
/** Last errors that count the ones before them, or add nothing to them. */
const summaries: readonly RegExp[] = [
  /^(?:.*: )?Found (\d+) errors?\. Giving up/,
  /^(?:.*: )?Language validation logged (\d+) errors?/,
  /^Try 'puppet help /,
];
/** Text that Puppet puts before the fault itself. The values of a property may be secret. */
const introductions: readonly RegExp[] = [
  /^Could not parse for environment \w+: /,
  /^Could not run: /,
  /^Failed to apply catalog: /,
  /^Evaluation Error: /,
  /^Error while evaluating an? [\w' -]+, /,
  /^Failed to parse inline template: /,
  /^Lookup of key 'lookup_options' failed: /,
  /^Parameter \w+ failed on (?=[A-Z])/,
  /^change from .*? failed: /s,
  /^Could not evaluate: /,
  /^Failed to call refresh: /,
  /^Could not update: /,
  /^Could not set '[^']*' on \w+: /,
  /^Could not \w+ \w+ .*?: (?=Execution of ')/,
];
/** Lines that name a fault, in the output of a program such as apt-get, dnf or nginx. */
const faultLine = /^(?:E|Err|fatal|fatal error|error)\b|^npm ERR!|\[(?:emerg|crit|error)\]/i;

/**
 * Finds the fault in the output of a run that failed, its own words first: a dependency cycle with its resources,
 * the resources that failed, the fatal error, or a Ruby exception.
 *
 * @param output of puppet, without colours
 * @param roots directories whose files are named by their paths below it: an update's content lies in a temporary
 *   place
 * @returns undefined when the output names no fault
 */
export function failureReason(output: string, roots: readonly string[]): string | undefined {
  const messages = parseMessages(output);
  const errors = messages.filter(isError).map(({ text }) => text);
  const reason =
    dependencyCycle(errors) ??
    failedResources(messages, roots) ??
    shorten(fatalError(errors), roots) ??
    exception(messages, roots);
  return reason === undefined || reason === '' ? undefined : printable(reason);
}

/** A syntax error in a manifest; the position is null where Puppet gives none. */
export interface SyntaxFault {
  error: string;
  line: number | null;
  column: number | null;
}

/** Finds the first error in the output of `puppet parser validate`, without the name of the file. */
export function syntaxFault(output: string): SyntaxFault | undefined {
  const text = fatalError(
    parseMessages(output)
      .filter(isError)
      .map((message) => message.text),
  );
  if (text === undefined) return undefined;
  const [, line, column] = /\(file: .*?, line: (\d+)(?:, column: (\d+))?\)/.exec(text) ?? [];
  const error = withoutIntroductions(firstLine(text))
    .replace(/ on node \S+$/, '')
    .replace(/ \(file: .*\)$/, '');
  return { error: printable(error), line: numberOrNull(line), column: numberOrNull(column) };
}

/**
 * Finds the resource at which a run was ended: `in Exec[migrate]` where Puppet itself still said that it failed, or
 * else `after` the last one that it spoke of.
 */
export function whereItEnded(output: string): string | undefined {
  const about = parseMessages(output).filter((message) => aboutResource(message).length > 0);
  const last = about.at(-1);
  const [found] = last === undefined ? [] : aboutResource(last);
  if (last === undefined || found === undefined) return undefined;
  return printable(`${isError(last) ? 'in' : 'after'} ${shortResource(found.resource)}`);
}

/**
 * Lists what a noop run would change: properties without their values, which may be secret, such as
 * `Main/File[/etc/motd]/content`, and resources that would be refreshed. The stage is named unless it is main.
 */
export function noopChanges(output: string): string[] {
  const changes = parseMessages(output).flatMap(({ level, text }) => {
    if (level !== 'Notice') return [];
    const [, property] = /^\/(Stage\[.*?\]\/.*?\]\/\w+): current_value /s.exec(text) ?? [];
    const [, refreshed] =
      /^\/(Stage\[.*?\]\/.*\]): Would have triggered 'refresh'/s.exec(text) ?? [];
    const path = property ?? (refreshed === undefined ? undefined : `${refreshed} (refresh)`);
    return path === undefined ? [] : [printable(path.replace(/^Stage\[main\]\//, ''))];
  });
  return changes.slice(0, maxNoopChanges);
}

function parseMessages(output: string): Message[] {
  const messages: Message[] = [];
  for (const line of output.split('\n')) {
    const level = levelPattern.exec(line)?.[1];
    const last = messages.at(-1);
    if (level !== undefined) messages.push({ level, text: line.slice(level.length + 2) });
    else if (last !== undefined) last.text += `\n${line}`;
    else messages.push({ level: '', text: line });
  }
  return messages;
}

/** Facter's errors, as in a sandbox, are not about the update. */
function isError({ level, text }: Message): boolean {
  return errorLevels.includes(level) && !text.startsWith('Facter: ');
}

/** The first of the dependency cycles that Puppet found, as `A => B => A`; it writes some line ends as `\n`. */
function dependencyCycle(errors: readonly string[]): string | undefined {
  for (const error of errors) {
    const [, count, cycle] =
      /^Found (\d+) dependency cycles?:\s*\((.*?)\)(?:\\n|\n|$)/s.exec(error) ?? [];
    if (cycle === undefined) continue;
    const more = Number(count) - 1;
    return `dependency cycle: ${cycle}${more > 0 ? `; and ${more} more` : ''}`;
  }
  return undefined;
}

/** The first resource that failed with its fault, and the names of the others. */
function failedResources(
  messages: readonly Message[],
  roots: readonly string[],
): string | undefined {
  const faults = new Map<string, string>();
  for (const { resource, text } of messages.filter(isError).flatMap(aboutResource))
    if (!faults.has(resource)) faults.set(resource, text);
  const [first, ...others] = [...faults];
  if (first === undefined) return undefined;
  const [resource, text] = first;
  const exit = /^(?:'.*'|\[command redacted\]) returned (\S+) instead of one of \[(.*)\]$/s.exec(
    withoutIntroductions(text),
  );
  const fault =
    exit === null
      ? shorten(text, roots)
      : commandFault(exit, messages.flatMap(aboutResource), resource);
  const also = others.map(([name]) => shortResource(name)).join(', ');
  return `${shortResource(resource)}: ${fault ?? 'failed'}${also === '' ? '' : `; also failed: ${also}`}`;
}

/** The exit status of an exec, and the last line that it printed. */
function commandFault(
  [, status = '', wanted = '']: readonly string[],
  messages: readonly ResourceMessage[],
  resource: string,
): string {
  const printed = messages
    .filter(
      (each) => each.resource === resource && !/ returned \S+ instead of one of \[/.test(each.text),
    )
    .map(({ text }) => lastLine(text))
    .filter((line) => line !== '');
  const other = wanted === '0' ? '' : ` instead of one of [${wanted}]`;
  const line = printed.at(-1);
  return `returned ${status}${other}${line === undefined ? '' : `: ${line}`}`;
}

/** The error that ended a run: the last one, or the first of those that it counts. */
function fatalError(errors: readonly string[]): string | undefined {
  for (let index = errors.length - 1; index >= 0; index -= 1) {
    const error = errors[index] ?? '';
    const summary = summaries.map((pattern) => pattern.exec(error)).find((match) => match !== null);
    if (summary === undefined) return error;
    const count = Number(summary[1] ?? 1);
    if (count > 1) return errors[Math.max(0, index - count)] ?? error;
  }
  return errors[0];
}

/** A Ruby exception, which has no level, with a backtrace below it; else the first line that is no message. */
function exception(messages: readonly Message[], roots: readonly string[]): string | undefined {
  const isOther = (line: string): boolean => line.trim() !== '' && !/: warning: /.test(line);
  const linesOf = (of: readonly Message[]): string[] => of.flatMap(({ text }) => text.split('\n'));
  const line =
    linesOf(messages).find((each) => /^\S+:\d+:in ['`]/.test(each)) ??
    linesOf(messages.filter(({ level }) => level === '')).find(isOther);
  return shorten(line?.replace(/^\S+:\d+:in ['`].*?': /, ''), roots);
}

/** A message that begins with the path of a resource: `/Stage[main]/Web/File[/etc/motd]/content: …`. */
function aboutResource({ text }: Message): ResourceMessage[] {
  const match = /^\/Stage\[.*?\]\/(.*?\])(?:\/\w+)?: (.*)$/s.exec(text);
  if (match === null) return [];
  const [, path = '', rest = ''] = match;
  return [{ resource: lastOfPath(path), text: rest }];
}

/** The resource at the end of a path of classes, which have no title, and defined types; titles have slashes too. */
function lastOfPath(path: string): string {
  const container = /^[A-Z]\w*(?:::[A-Z]\w*)*(?:\[.*?\])?\/(?=[A-Z]\w*(?:::[A-Z]\w*)*(?:\/|\[))/s;
  let rest = path;
  for (;;) {
    const [prefix] = container.exec(rest) ?? [];
    if (prefix === undefined) return rest;
    rest = rest.slice(prefix.length);
  }
}

function shortResource(resource: string): string {
  const line = resource.replace(/\s+/g, ' ');
  return line.length <= maxResourceChars ? line : `${line.slice(0, maxResourceChars - 4)}...]`;
}

/** The line of an error that says most, without its introduction, with short names of files. */
function shorten(error: string | undefined, roots: readonly string[]): string | undefined {
  if (error === undefined) return undefined;
  const text = withoutIntroductions(error).replace(
    /^Could not retrieve information from environment \S+ source\(s\) /,
    'no source ',
  );
  const [, command = '', status = '', output = ''] =
    /^Execution of '(\S+).*?' returned (\S+?): ?(.*)$/s.exec(text) ?? [];
  if (command !== '') {
    const line = tellingLine(output) ?? firstLine(output);
    return line === '' ? `${command} returned ${status}` : withShortNames(line, roots);
  }
  const [, failed = '', journal] =
    /^(Systemd .*?)!\njournalctl log for .*?:\n(.*)$/s.exec(text) ?? [];
  if (journal !== undefined) {
    const own = ownLines(journal);
    return `${failed}: ${tellingLine(own) ?? lastLine(own)}`;
  }
  return withShortNames(firstLine(text).replace(/ on node \S+$/, ''), roots);
}

function withoutIntroductions(error: string): string {
  for (let text = error; ;) {
    const shorter = introductions.reduce((rest, pattern) => rest.replace(pattern, ''), text);
    if (shorter === text) return text;
    text = shorter;
  }
}

/** Names files by their paths below the roots, and positions in them as `site.pp:3:7`. */
function withShortNames(text: string, roots: readonly string[]): string {
  return roots
    .reduce((rest, root) => rest.replaceAll(`${root}/`, ''), text)
    .replace(
      /\(file: (.*?), line: (\d+)(?:, column: (\d+))?\)/g,
      (_all, file, line, column) =>
        `(${[file, line, column].filter((part) => part !== undefined).join(':')})`,
    )
    .replace(/\(file: (.*?)\)/g, '($1)')
    .replace(/\((\S+:\d+)\) (?=\(\1:\d+\))/g, '');
}

/** The messages of the service itself, without systemd's and without time, host and process. */
function ownLines(journal: string): string {
  const entries = journal
    .split('\n')
    .map((line) => /^\w{3} .*? \S+ ([^\s:]+?)(?:\[\d+\])?: (.*)$/.exec(line));
  const lines = entries.flatMap((entry) => (entry === null ? [] : [entry]));
  const own = lines.filter(([, program]) => program !== 'systemd');
  return (own.length > 0 ? own : lines).map(([, , text]) => text).join('\n');
}

/** The first line that names a fault. */
function tellingLine(text: string): string | undefined {
  const lines = text.split('\n').map((line) => line.trim());
  return lines.find((line) => faultLine.test(line));
}

function firstLine(text: string): string {
  return text.trim().split('\n')[0]?.trim() ?? '';
}

function lastLine(text: string): string {
  return text.trim().split('\n').at(-1)?.trim() ?? '';
}

function numberOrNull(digits: string | undefined): number | null {
  return digits === undefined ? null : Number(digits);
}
