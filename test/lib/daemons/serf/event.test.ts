import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, constants, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it, vi } from 'vitest';
import { UpdateError } from '../../../../lib/errors.ts';
import { parseSerfEnvironment, readPayload } from '../../../../lib/daemons/serf/event.ts';

let pipes = 0;
const dir = mkdtempSync(join(tmpdir(), 'serf-event-'));
afterAll(() => {
  rmSync(dir, { recursive: true });
});

describe('parseSerfEnvironment', () => {
  const self = { SERF_SELF_NAME: 'pi-07' };
  const user = { ...self, SERF_EVENT: 'user', SERF_USER_EVENT: 'update', SERF_USER_LTIME: '42' };
  const query = { ...self, SERF_EVENT: 'query', SERF_QUERY_NAME: 'update-latest' };

  it.each([
    ['a user event', user, { kind: 'user', name: 'update', lamportTime: 42, selfName: 'pi-07' }],
    [
      'a forged, huge clock',
      { ...user, SERF_USER_LTIME: '18446744073709551615' },
      { kind: 'user', name: 'update', lamportTime: 2 ** 64, selfName: 'pi-07' },
    ],
    [
      'a query',
      { ...query, SERF_QUERY_LTIME: '7' },
      { kind: 'query', name: 'update-latest', lamportTime: 7, selfName: 'pi-07' },
    ],
  ])('reads %s', (_, env, event) => {
    expect(parseSerfEnvironment(env)).toEqual(event);
  });

  it.each(['join', 'leave', 'failed', 'update', 'reap'])('reads member-%s', (event) => {
    const env = { ...self, SERF_EVENT: `member-${event}` };
    expect(parseSerfEnvironment(env)).toEqual({ kind: 'member', event, selfName: 'pi-07' });
  });

  it.each([
    ['an environment without Serf', {}, 'SERF_SELF_NAME is not set'],
    ['no event', self, 'SERF_EVENT is not set'],
    ['an empty event', { ...self, SERF_EVENT: '' }, 'SERF_EVENT is not set'],
    ['an unknown event', { ...self, SERF_EVENT: 'member-explode' }, 'is "member-explode"'],
    ['an inherited property', { ...self, SERF_EVENT: 'constructor' }, 'is "constructor"'],
    ['a user event without a name', { ...user, SERF_USER_EVENT: '' }, 'SERF_USER_EVENT is not set'],
    ['a user event without a clock', { ...user, SERF_USER_LTIME: undefined }, 'SERF_USER_LTIME'],
    ['a clock that is no number', { ...user, SERF_USER_LTIME: '-1' }, 'is not a number'],
    ['a query without a clock', query, 'SERF_QUERY_LTIME is not set'],
    ['no node name', { ...user, SERF_SELF_NAME: undefined }, 'SERF_SELF_NAME is not set'],
  ])('refuses %s', (_, env, why) => {
    const refusal = refusalOf(() => parseSerfEnvironment(env));
    expect(refusal.code).toBe('usage');
    expect(refusal.message).toContain('is run by Serf');
    expect(refusal.message).toContain(why);
  });
});

describe('readPayload', () => {
  it.each([
    ['nothing', '', ''],
    ['an empty line', '\n', ''],
    ["Serf's newline", 'AQEA\n', 'AQEA'],
    ['no newline at all', 'AQEA', 'AQEA'],
    ['one newline of two', 'AQEA\n\n', 'AQEA\n'],
    ['a carriage return', 'AQEA\r\n', 'AQEA\r'],
    ['bytes that are not text', '\x00\xff\n', '\x00\xff'],
    ['exactly the limit', `${'x'.repeat(16)}\n`, 'x'.repeat(16)],
  ])('removes the newline that Serf appends, from %s', (_, input, payload) => {
    expect(reading(input, 16).toString('latin1')).toBe(payload);
  });

  it.each([
    ['one byte over', 'x'.repeat(17)],
    ['one byte over, and the newline', `${'x'.repeat(17)}\n`],
    ['a newline at the limit and another', `${'x'.repeat(16)}\n\n`],
    ['far over', 'x'.repeat(10_000)],
  ])('refuses a payload that is too long: %s', (_, input) => {
    const refusal = refusalOf(() => reading(input, 16));
    expect(refusal.code).toBe('malformed');
    expect(refusal.message).toBe('the payload is longer than 16 bytes');
  });

  it('takes 2,048 bytes unless told otherwise', () => {
    expect(reading(`${'x'.repeat(2048)}\n`)).toHaveLength(2048);
    expect(() => reading('x'.repeat(2049))).toThrow(UpdateError);
  });

  it('gathers a payload from small writes on a pipe in non-blocking mode', () => {
    // The writer starts after the first read, which therefore fails with EAGAIN.
    const { fd } = pipeFrom('printf one; printf " two"; printf " three\\n"');
    expect(readPayload(fd).toString()).toBe('one two three');
    closeSync(fd);
  });

  it('gives up on a payload that is not complete after 10 s', () => {
    const { fd, child } = pipeFrom('printf one; exec cat');
    const start = performance.now();
    const clock = vi
      .spyOn(performance, 'now')
      .mockReturnValueOnce(start)
      .mockReturnValue(start + 10_000);
    const refusal = refusalOf(() => readPayload(fd));
    clock.mockRestore();
    expect(refusal.code).toBe('unavailable');
    expect(refusal.message).toContain('10 s');
    closeSync(fd);
    child.kill();
  });

  it('leaves a payload of 10 MB unread, and releases its writer', async () => {
    const { fd, child } = pipeFrom('exec head -c 10000000 /dev/zero');
    const ended = once(child, 'close');
    expect(() => readPayload(fd)).toThrow('the payload is longer than 2048 bytes');
    expect(await ended).toEqual([null, 'SIGPIPE']);
  });

  it('reports a descriptor that cannot be read', () => {
    const fd = openSync(dir, 'r');
    expect(refusalOf(() => readPayload(fd)).code).toBe('unavailable');
    closeSync(fd);
  });
});

/** The result of readPayload for a descriptor with this content. */
function reading(content: string, maxBytes?: number): Buffer {
  const file = join(dir, 'stdin');
  writeFileSync(file, content, 'latin1');
  const fd = openSync(file, 'r');
  const payload = readPayload(fd, maxBytes);
  closeSync(fd);
  return payload;
}

/** The non-blocking read end of a pipe that a shell command writes to. */
function pipeFrom(command: string): { fd: number; child: ChildProcess } {
  const path = join(dir, `pipe-${pipes++}`);
  execFileSync('mkfifo', [path]);
  const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  const writeEnd = openSync(path, 'w');
  const child = spawn('/bin/sh', ['-c', command], { stdio: ['pipe', writeEnd, 'inherit'] });
  closeSync(writeEnd);
  return { fd, child };
}

function refusalOf(act: () => unknown): UpdateError {
  try {
    act();
  } catch (error) {
    if (error instanceof UpdateError) return error;
    throw error;
  }
  throw new Error('it was not refused');
}
