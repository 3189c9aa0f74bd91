import { statSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { isChannel } from '../../lib/announcement/fields.ts';
import { nameOf, parseUpdateName, type UpdateId } from '../../lib/announcement/update.ts';
import { commandHint } from '../../lib/command-hint.ts';
import type { Config } from '../../lib/config.ts';
import { UpdateError } from '../../lib/errors.ts';
import { outcomesDir, updatesDir } from '../../lib/state/layout.ts';
import { readProgress } from '../../lib/state/progress.ts';
import { eventLogFile, type LoggedLine, readEvents } from '../../lib/system/event-log.ts';
import { asciiOnly } from '../../lib/system/printable.ts';
import { print } from '../cli/output.ts';
import type { LogOptions } from './arguments.ts';

const pollMs = 500;

/**
 * Prints the log of this node, of its handlers, advance and the apply side together, in the order of time.
 *
 * @throws UpdateError `usage` for a key that is neither a channel nor an update, `configuration` for a log
 *   that this user may not read
 */
export async function showLog(
  config: Config,
  { key, json, queries, follow }: LogOptions,
): Promise<void> {
  const isOfKey = filterFor(config, key);
  const matches = (line: LoggedLine): boolean => (queries || !isAnswer(line)) && isOfKey(line);
  const format = json ? (line: LoggedLine): string => JSON.stringify(line) : formatLine;
  let seen = sizes(config);
  let lines = readBoth(config);
  printLines(lines.filter(matches).map(format));
  while (follow) {
    await sleep(pollMs);
    const current = sizes(config);
    if (current === seen) continue;
    seen = current;
    const before = new Set(lines.map((line) => JSON.stringify(line)));
    lines = readBoth(config);
    printLines(
      lines
        .filter((line) => !before.has(JSON.stringify(line)))
        .filter(matches)
        .map(format),
    );
  }
}

/** Whether a line is of a query that the node only answered: each status of the fleet leaves some on every node. */
function isAnswer({ handler, decision }: LoggedLine): boolean {
  return decision === 'answer' && (handler === 'status' || handler === 'latest');
}

/** The hook knows an info hash alone, so an update's own lines are also those that name its hash. */
function filterFor(config: Config, key: string | undefined): (line: LoggedLine) => boolean {
  if (key === undefined) return () => true;
  const id = parseUpdateName(key);
  if (id !== undefined) {
    const infoHash = infoHashOf(config, id);
    return ({ channel, version, reason }) =>
      (channel === id.channel && version === id.version) || reason === infoHash;
  }
  if (isChannel(key)) return ({ channel }) => channel === key;
  throw new UpdateError('usage', `${key} is neither a channel nor channel@version`, {
    hint: `the table of the status has them, such as default@1764000000: ${commandHint('status')}`,
  });
}

function infoHashOf({ stateDir, applyDir }: Config, id: UpdateId): string | undefined {
  try {
    return (readProgress(updatesDir(stateDir), id) ?? readProgress(outcomesDir(applyDir), id))
      ?.infoHash;
  } catch {
    // Damaged, or closed to this user: the lines that name the update need no info hash.
    return undefined;
  }
}

function readBoth({ stateDir, applyDir }: Config): LoggedLine[] {
  return [stateDir, applyDir].flatMap(readLog).sort((a, b) => (a.time < b.time ? -1 : 1));
}

function readLog(directory: string): LoggedLine[] {
  try {
    return readEvents(directory);
  } catch (cause) {
    if (!(cause instanceof UpdateError && cause.code === 'configuration')) throw cause;
    throw new UpdateError('configuration', `cannot read ${eventLogFile(directory)}`, {
      hint: 'run it as root, or as a member of the group p2p-update',
      cause,
    });
  }
}

function sizes({ stateDir, applyDir }: Config): string {
  return [stateDir, applyDir]
    .map((directory) => statSync(eventLogFile(directory), { throwIfNoEntry: false }))
    .map((stats) => `${stats?.ino ?? 0} ${stats?.size ?? 0}`)
    .join('\n');
}

function printLines(lines: readonly string[]): void {
  if (lines.length > 0) print(`${lines.join('\n')}\n`);
}

function formatLine({ time, handler, channel, version, decision, reason, ms }: LoggedLine): string {
  const update = channel === undefined ? '' : nameOf({ channel, version: version ?? 0 });
  const text = [
    time,
    handler.padEnd(17),
    update.padEnd(20),
    decision.padEnd(10),
    `${reason} (${ms} ms)`,
  ].join('  ');
  // A reason may quote a payload or a peer, and a terminal obeys control characters.
  return asciiOnly(text);
}
