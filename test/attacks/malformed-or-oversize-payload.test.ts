import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it, test } from 'vitest';
import { makeAnnouncement, makeKeys, signAnnouncement } from '../support/fleet/announce.ts';
import { UpdateNode } from '../support/fleet/update-node.ts';
import { mustRun, runSync } from '../support/run/command.ts';
import { repository } from '../support/run/repository.ts';
import { temporaryDirectory } from '../support/run/temporary.ts';

// Malformed and oversize payloads: refused as malformed, with no more than the limit read.

const keys = makeKeys();
/** 2,048 bytes, the newline that Serf adds, and one byte that shows that there is more. */
const maxReadBytes = 2048 + 2;

interface FuzzResult {
  runs: number;
  perSecond: number;
  crashes: number;
  falseAccepts: number;
  falseRefusals: number;
}

test('accepts only genuine bytes of 100,000 mutated payloads, without a crash', () => {
  const fuzz = ['--import', 'tsx', 'test/fuzz/main.ts', '--runs', '100000', '--json'];
  const { status, stdout, stderr } = runSync([process.execPath, ...fuzz], {
    cwd: repository,
    timeoutMs: 300_000,
  });
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  const result = JSON.parse(stdout) as FuzzResult;
  expect(result).toMatchObject({ runs: 100_000, crashes: 0, falseAccepts: 0, falseRefusals: 0 });
  expect(result.perSecond).toBeGreaterThan(0);
}, 300_000);

describe('the update handler refuses as malformed, and changes nothing', () => {
  const genuine = signAnnouncement(makeAnnouncement(), keys);
  const bytes = Buffer.from(genuine, 'base64url');
  const payloads: [string, string | Buffer, RegExp][] = [
    ['nothing', '', /cut off/],
    ['only a newline', '\n', /cut off/],
    ['NUL', '\0', /base64url/],
    ['4 bytes of NUL', Buffer.alloc(4), /base64url/],
    ['binary', Buffer.from(Array.from({ length: 256 }, (_, i) => i)), /base64url/],
    ['the bytes without base64url', bytes, /base64url/],
    ['invalid UTF-8', Buffer.from([0xc3, 0x28, 0xff, 0xfe]), /base64url/],
    ['the text in UTF-16', Buffer.from(genuine, 'utf16le'), /base64url/],
    ['a byte order mark', `\ufeff${genuine}`, /base64url/],
    ['padding', `${genuine}==`, /base64url/],
    ['two newlines', `${genuine}\n\n`, /base64url/],
    ['a carriage return', `${genuine}\r\n`, /base64url/],
    ['two announcements', genuine + genuine, /base64url|follow the last signature/],
    ['the last byte missing', bytes.subarray(0, -1).toString('base64url'), /cut off/],
    ['one byte more', Buffer.concat([bytes, bytes.subarray(0, 1)]).toString('base64url'), /follow/],
    ['2,048 bytes', 'A'.repeat(2048), /format 0/],
    ['2,049 bytes', 'A'.repeat(2049), /longer than 2048 bytes/],
    ['2,048 bytes and newlines', `${'A'.repeat(2048)}\n\n`, /longer than 2048 bytes/],
    ['1 MiB', Buffer.alloc(2 ** 20, 'A'), /longer than 2048 bytes/],
    ['1 MiB of NUL', Buffer.alloc(2 ** 20), /longer than 2048 bytes/],
    ['a torrent of nothing', 'd4:infodee', /torrent/],
    ['a torrent that nests without end', `d4:info${'l'.repeat(2000)}`, /torrent/],
    ['a torrent with a length beyond its end', 'd4:info999999999:xe', /torrent/],
  ];

  it.each(payloads)('the payload %s', (_, payload, message) => {
    const node = new UpdateNode(keys);
    expect(node.handle(signAnnouncement(makeAnnouncement({ channel: 'kept' }), keys)).status).toBe(
      0,
    );
    node.expectRefusal(() => node.handle(payload), 65, message);
    expect(node.handle(genuine).status).toBe(0);
  });

  it('a large file, of which it reads 2,050 bytes', () => {
    const node = new UpdateNode(keys);
    const file = join(temporaryDirectory(), 'payload');
    writeFileSync(file, Buffer.alloc(2 ** 20, 'A'));
    const input = openSync(file, 'r');
    try {
      const run = () => node.run({ stdio: [input, 'pipe', 'pipe'] });
      node.expectRefusal(run, 65, /longer than 2048 bytes/);
      // The handler's descriptor shares its position with ours.
      const position = /^pos:\s+(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${input}`, 'utf8'));
      expect(Number(position?.[1])).toBe(maxReadBytes);
    } finally {
      closeSync(input);
    }
  });

  it('a pipe without end, and releases the writer', async () => {
    const node = new UpdateNode(keys);
    const fifo = join(temporaryDirectory(), 'fifo');
    mustRun(['mkfifo', fifo]);
    // Writes for ever, unless the reader goes away.
    const writer = spawn('/bin/sh', ['-c', 'exec yes >"$1"', 'sh', fifo]);
    const ended = once(writer, 'exit') as Promise<[number | null, string | null]>;
    const input = openSync(fifo, 'r');
    const run = () => node.run({ stdio: [input, 'pipe', 'pipe'] });
    try {
      node.expectRefusal(run, 65, /longer than 2048 bytes/);
    } finally {
      closeSync(input);
    }
    const [, signal] = await ended;
    expect(signal).toBe('SIGPIPE');
  });
});
