import { createHash } from 'node:crypto';
import { existsSync, linkSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { contentLocation } from '../../lib/announcement/update.ts';
import { makeApplySide, stagedIn } from '../support/fleet/apply-side.ts';
import { bindDevice, content, hostilePlaces, writeInto } from './hostile-places.ts';
import { readState } from '../support/run/state.ts';
import { temporaryDirectory } from '../support/run/temporary.ts';
import { mustRun, runSync } from '../support/run/command.ts';

// Files that Transmission's user can put in the place of a download: no link is followed, only regular
// files are read, no writer is waited for, and at most one byte more than announced is read.

describe('in the place of the download', () => {
  test.each(hostilePlaces)(
    'nothing is applied, and no writer waited for: %s',
    async (name, reason, make) => {
      const directory = temporaryDirectory();
      const node = makeApplySide(directory);
      const update = node.receive({ kind: 'file', name: 'content.bin' }, content);
      const place = contentLocation(update, node.config.downloadDir).file;
      rmSync(place);
      await make(place);
      const before = readState(node.config.stateDir);
      const begin = performance.now();
      const events = await node.apply();
      expect(performance.now() - begin).toBeLessThan(30_000);
      // A deletion, or a cut by a full disk, is no fault of the update: advance has it downloaded again.
      const isIncomplete = ['nothing', 'an empty file', 'a file one byte short'].includes(name);
      expect(events).toMatchObject([{ decision: isIncomplete ? 'wait' : 'queued' }]);
      expect(events[0]?.reason).toMatch(reason);
      expect(events[0]?.reason).not.toContain('secret');
      // Back to advance, which lets Transmission verify its data.
      if (isIncomplete) expect(node.outcomeOf(update)).toBeUndefined();
      else expect(node.outcomeOf(update)).toMatchObject({ state: 'QUEUED', badContent: 1 });
      expect(stagedIn(node)).toEqual([]);
      expect(existsSync(node.config.deliveryDir)).toBe(false);
      expect(readState(node.config.stateDir)).toEqual(before);
      expect(await node.apply()).toEqual([]);
    },
  );

  test('a hard link to the right content is a file as any other', async () => {
    const node = makeApplySide(temporaryDirectory());
    const update = node.receive({ kind: 'file', name: 'content.bin' }, content);
    const place = contentLocation(update, node.config.downloadDir).file;
    linkSync(place, `${place}.again`);
    await node.apply();
    expect(node.outcomeOf(update)?.state).toBe('APPLIED');
    const delivered = join(node.config.deliveryDir, 'content.bin');
    expect(readFileSync(delivered).equals(content)).toBe(true);
    // A copy, and not one more name of a file that another user can write.
    expect(statSync(delivered)).toMatchObject({ nlink: 1, uid: process.getuid?.() });
  });
});

describe('at most one byte more than announced is read', () => {
  const long = Buffer.alloc(32 * 2 ** 20, 'long ');

  /** Copies in a process of its own, and counts what the kernel gave it of that path. */
  function copyTraced(place: string, announced: Buffer, ...more: string[]) {
    const target = `${place}.target`;
    const trace = `${place}.trace`;
    const sha256 = createHash('sha256').update(announced).digest('hex');
    const script = join(import.meta.dirname, 'copy-probe.ts');
    const strace = ['-f', '-qq', '-P', place, '-e', 'trace=read,pread64,readv,preadv', '-o', trace];
    const probe = [process.execPath, '--import', 'tsx', script];
    const { status, stdout, stderr } = runSync([
      'strace',
      ...[...strace, ...probe, place, target, String(announced.length), sha256, ...more],
    ]);
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    const bytesRead = [...readFileSync(trace, 'utf8').matchAll(/ = (\d+)$/gm)]
      .map(([, bytes]) => Number(bytes))
      .reduce((sum, bytes) => sum + bytes, 0);
    return { outcome: stdout, bytesRead };
  }

  test('of the right content every byte, once', () => {
    const place = join(temporaryDirectory(), 'place');
    writeFileSync(place, long);
    expect(copyTraced(place, long)).toEqual({ outcome: 'copied', bytesRead: long.length });
  });

  test('of a file that grows while it is read', () => {
    const place = join(temporaryDirectory(), 'place');
    writeFileSync(place, long);
    const { outcome, bytesRead } = copyTraced(place, long, 'grow');
    expect(outcome).toBe(`it has more than ${long.length} bytes`);
    expect(statSync(place).size).toBeGreaterThan(long.length + 1);
    expect(bytesRead).toBe(long.length + 1);
    expect(statSync(`${place}.target`).size).toBeLessThanOrEqual(long.length);
  });

  test.each<[string, (place: string) => void | Promise<void>]>([
    [
      'a longer file',
      (place) => {
        writeFileSync(place, Buffer.concat([long, long]));
      },
    ],
    [
      '/dev/zero',
      (place) => {
        bindDevice('/dev/zero', place);
      },
    ],
    [
      'a FIFO with a writer',
      async (place) => {
        mustRun(['mkfifo', place]);
        await writeInto(place);
      },
    ],
  ])('of %s nothing at all', async (_, make) => {
    const place = join(temporaryDirectory(), 'place');
    await make(place);
    const { outcome, bytesRead } = copyTraced(place, long);
    expect(outcome).toMatch(/^it (is not a regular file|has \d+ bytes, not \d+)$/);
    expect(bytesRead).toBe(0);
    expect(existsSync(`${place}.target`)).toBe(false);
  });
});
