import {
  appendFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { eventLogFile, logEvent, readEvents, rotateLog } from '../../../lib/system/event-log.ts';
import { run } from '../../support/run/command.ts';
import { repository } from '../../support/run/repository.ts';
import { temporaryDirectory } from '../../support/run/temporary.ts';
import { waitFor } from '../../support/run/wait-for.ts';

const mebibyte = 2 ** 20;
const event = (reason: string) => ({ handler: 'test', decision: 'accept', reason });
const reasons = (directory: string): string[] => readEvents(directory).map((line) => line.reason);

/** Makes the log as long as one that has to be rotated, without lines of its own. */
function fill(directory: string): void {
  appendFileSync(eventLogFile(directory), `${' '.repeat(mebibyte)}\n`);
}

test('leaves a short log, sets a long one aside, and keeps five', () => {
  const directory = temporaryDirectory();
  for (let round = 1; round <= 7; round += 1) {
    logEvent(directory, event(`round ${round}`));
    rotateLog(directory);
    expect(existsSync(eventLogFile(directory))).toBe(true);
    fill(directory);
    rotateLog(directory);
    expect(existsSync(eventLogFile(directory))).toBe(false);
  }
  logEvent(directory, event('last'));
  expect(reasons(directory)).toEqual(['round 4', 'round 5', 'round 6', 'round 7', 'last']);
});

test('loses only the oldest log to a rotation that is interrupted anywhere', () => {
  const directory = temporaryDirectory();
  const file = eventLogFile(directory);
  // Killed after events.log.1 became events.log.2, before events.log became events.log.1.
  logEvent(directory, event('old'));
  writeFileSync(`${file}.2`, readFileSync(file));
  writeFileSync(file, '');
  logEvent(directory, event('new'));
  fill(directory);
  rotateLog(directory);
  expect(reasons(directory)).toEqual(['old', 'new']);
});

test('loses no line of a writer to a rotation', async () => {
  const directory = temporaryDirectory();
  const enough = join(directory, 'enough');
  // Goes on until the last rotation is over, and says how many lines it has written.
  const write = `
    import { existsSync } from 'node:fs';
    import { setTimeout } from 'node:timers/promises';
    import { logEvent } from ${JSON.stringify(join(repository, 'lib/system/event-log.ts'))};
    const [directory, enough] = process.argv.slice(1);
    let lines = 0;
    for (; lines < 200 || !existsSync(enough); lines += 1) {
      logEvent(directory, { handler: 'writer', decision: 'accept', reason: process.pid + ' ' + lines });
      if (lines % 20 === 0) await setTimeout(1);
    }
    console.log(lines);`;
  const writers = [1, 2, 3].map(async () => {
    const node = [process.execPath, '--import', 'tsx', '--input-type=module'];
    const { status, stdout, stderr } = await run([...node, '-e', write, directory, enough]);
    expect(status, stderr).toBe(0);
    return Number(stdout);
  });
  for (let rotation = 1; rotation <= 4; rotation += 1) {
    await waitFor('a line is written', () => existsSync(eventLogFile(directory)));
    fill(directory);
    rotateLog(directory);
  }
  writeFileSync(enough, '');
  const lines = (await Promise.all(writers)).reduce((sum, count) => sum + count);
  expect(lines).toBeGreaterThanOrEqual(600);
  expect(reasons(directory)).toHaveLength(lines);
  expect(new Set(reasons(directory)).size).toBe(lines);
});

test('leaves out a line that a power cut has torn, and no other', () => {
  const directory = temporaryDirectory();
  logEvent(directory, event('before'));
  appendFileSync(eventLogFile(directory), '{"time":"2026-01-01T00:00:00.000Z","hand');
  logEvent(directory, event('after'));
  appendFileSync(eventLogFile(directory), '\0\0\0\0');
  logEvent(directory, event('last'));
  expect(reasons(directory)).toEqual(['before', 'after', 'last']);
});

test.each([1, 4096, 10_000])('drops %i NUL bytes that a power cut has left at its end', (count) => {
  const directory = temporaryDirectory();
  logEvent(directory, event('before'));
  appendFileSync(eventLogFile(directory), Buffer.alloc(count));
  logEvent(directory, event('after'));
  expect(reasons(directory)).toEqual(['before', 'after']);
  expect(readFileSync(eventLogFile(directory)).includes(0)).toBe(false);
});

test.each([
  [
    'a link',
    (file: string, other: string) => {
      symlinkSync(other, file);
    },
  ],
  [
    'a directory',
    (file: string) => {
      mkdirSync(file);
    },
  ],
])('reads no lines through %s in the place of a log', (_, place) => {
  const directory = temporaryDirectory();
  const elsewhere = temporaryDirectory();
  logEvent(elsewhere, event('secret'));
  place(eventLogFile(directory), eventLogFile(elsewhere));
  expect(readEvents(directory)).toEqual([]);
});

test('gives a new log the read permissions of its directory', () => {
  const directory = join(temporaryDirectory(), 'state');
  mkdirSync(directory, { mode: 0o750 });
  logEvent(directory, event('first'));
  expect(statSync(eventLogFile(directory)).mode & 0o777).toBe(0o640);
});
