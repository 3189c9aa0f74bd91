import { closeSync, readSync } from 'node:fs';
import { commandHint } from '../../command-hint.ts';
import { UpdateError, hasErrno } from '../../errors.ts';
import { printable } from '../../system/printable.ts';

/** The event or query that a Serf handler was started for, from its environment. */
export type SerfEvent =
  | { kind: 'user'; name: string; lamportTime: number; selfName: string }
  | { kind: 'query'; name: string; lamportTime: number; selfName: string }
  | { kind: 'member'; event: MemberEvent; selfName: string };

export type MemberEvent = 'join' | 'leave' | 'failed' | 'update' | 'reap';

const memberEvents: readonly MemberEvent[] = ['join', 'leave', 'failed', 'update', 'reap'];

// Serf's writer is already waiting when the handler starts; only a hand-made pipe can be slow.
const readTimeoutMs = 10_000;

/**
 * Reads the environment that Serf gives to a handler (serf/cmd/serf/command/agent/invoke.go).
 *
 * The Lamport time is for telling events apart in a log only: any member can forge it, and it is rounded
 * above 2^53.
 *
 * @throws UpdateError `usage` when the process was not started by Serf
 */
export function parseSerfEnvironment(env: Readonly<Record<string, string | undefined>>): SerfEvent {
  const selfName = required(env, 'SERF_SELF_NAME');
  const event = required(env, 'SERF_EVENT');
  if (event === 'user') {
    const name = required(env, 'SERF_USER_EVENT');
    return { kind: 'user', name, lamportTime: lamportTime(env, 'SERF_USER_LTIME'), selfName };
  }
  if (event === 'query') {
    const name = required(env, 'SERF_QUERY_NAME');
    return { kind: 'query', name, lamportTime: lamportTime(env, 'SERF_QUERY_LTIME'), selfName };
  }
  const member = memberEvents.find((known) => event === `member-${known}`);
  if (member === undefined) throw notFromSerf(`SERF_EVENT is "${printable(event.slice(0, 40))}"`);
  return { kind: 'member', event: member, selfName };
}

/**
 * Reads the payload that Serf writes to a handler's stdin, without the one newline that Serf appends
 * to a payload that has none at its end (invoke.go). A payload that ended in a newline of its own comes
 * out without it: the two cannot be told apart.
 *
 * Synchronous, because a stream costs 10 ms more at start, on the path that every event takes. Reads
 * `maxBytes` + 2 bytes at most; past the limit the descriptor is closed, so that the writer of a large
 * payload is not kept waiting.
 *
 * @param fd the descriptor to read, 0 in a handler
 * @param maxBytes the longest payload to accept, in bytes
 * @throws UpdateError `malformed` when the payload is longer, `unavailable` when it stays incomplete for
 *   10 s or cannot be read
 */
export function readPayload(fd = 0, maxBytes = 2048): Buffer {
  // One byte for Serf's newline, and one that shows that the payload is longer.
  const buffer = Buffer.allocUnsafe(maxBytes + 2);
  const deadline = performance.now() + readTimeoutMs;
  let length = 0;
  while (length < buffer.length) {
    const count = readSome(fd, buffer, length, deadline);
    if (count === 0) break;
    length += count;
  }
  const end = length > 0 && buffer[length - 1] === 0x0a ? length - 1 : length;
  if (end > maxBytes) {
    closeSync(fd);
    throw new UpdateError('malformed', `the payload is longer than ${maxBytes} bytes`, {
      hint: `large content travels by torrent, not in the event; announcements are made by: ${commandHint('submit', 'FILE')}`,
    });
  }
  return buffer.subarray(0, end);
}

/** Reads some bytes from a descriptor, which may be in non-blocking mode; returns 0 at its end. */
function readSome(fd: number, buffer: Buffer, offset: number, deadline: number): number {
  for (;;) {
    try {
      return readSync(fd, buffer, offset, buffer.length - offset, null);
    } catch (error) {
      if (!hasErrno(error, 'EAGAIN')) throw unreadable('the payload cannot be read', error);
      if (performance.now() >= deadline)
        throw unreadable('the payload is not complete after 10 s', error);
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5);
    }
  }
}

function unreadable(message: string, cause: unknown): UpdateError {
  return new UpdateError('unavailable', message, {
    hint: 'Serf writes the payload to stdin and closes it: is a wrapper script holding it open?',
    cause,
  });
}

function required(env: Readonly<Record<string, string | undefined>>, key: string): string {
  const value = env[key];
  if (value === undefined || value === '') throw notFromSerf(`${key} is not set`);
  return value;
}

function lamportTime(env: Readonly<Record<string, string | undefined>>, key: string): number {
  const value = required(env, key);
  if (!/^\d{1,20}$/.test(value)) throw notFromSerf(`${key} is not a number`);
  return Number(value);
}

function notFromSerf(why: string): UpdateError {
  return new UpdateError('usage', `this handler is run by Serf, with its environment: ${why}`, {
    hint: `name it under event_handlers in serf.json (docs/serf.md); to send an update: ${commandHint('submit', 'FILE')}`,
  });
}
