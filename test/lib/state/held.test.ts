import { renameSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { type UpdateId, updateKey } from '../../../lib/announcement/update.ts';
import { advance } from '../../../lib/reconciler/advance/advance.ts';
import { loadVerified } from '../../../lib/state/candidates.ts';
import { listAccepted } from '../../../lib/state/facts.ts';
import { HeldUpdates } from '../../../lib/state/held.ts';
import { announcementsDir, prepareStateDir } from '../../../lib/state/layout.ts';
import { encodeRecord } from '../../../lib/system/record.ts';
import { type ApplySide, makeApplySide } from '../../support/fleet/apply-side.ts';
import { MemoryTransmission, noAnnounces } from '../../support/fleet/memory-transmission.ts';
import { countCalls } from '../../support/run/call-counts.ts';
import { temporaryDirectory } from '../../support/run/temporary.ts';

const counted = ['decodeAnnouncement', 'verifyAnnouncement'] as const;
const channels = 12;
const once = { decodeAnnouncement: channels, verifyAnnouncement: channels };

function nodeWithDueFiles(): ApplySide {
  const node = makeApplySide(temporaryDirectory());
  for (let index = 0; index < channels; index += 1)
    node.receive({ kind: 'file', channel: `c-${index}`, name: 'f.bin' }, Buffer.from(`${index}`));
  return node;
}

/** Sets a directory's times to the past, as if nothing had changed in it for a while. */
function settle(directory: string, atMs: number): void {
  utimesSync(directory, new Date(atMs), new Date(atMs));
}

function plant({ config }: ApplySide, id: UpdateId, text = ''): string {
  prepareStateDir(config.stateDir);
  const file = join(announcementsDir(config.stateDir), updateKey(id));
  writeFileSync(file, text);
  return file;
}

describe('a pass', () => {
  it('of the apply side decodes and verifies each held announcement once for any number of due updates', async () => {
    const node = nodeWithDueFiles();
    expect(await countCalls(counted, () => node.apply())).toEqual(once);
    expect((await node.apply()).filter(({ decision }) => decision !== 'applied')).toEqual([]);
  });

  it('of the apply side decodes and verifies each held announcement once when nothing is due', async () => {
    const node = nodeWithDueFiles();
    await node.apply();
    expect(await countCalls(counted, () => node.apply())).toEqual(once);
  });

  it('of advance decodes and verifies each held announcement once', async () => {
    const { config } = nodeWithDueFiles();
    const transmission = new MemoryTransmission(new Map(), config.downloadDir).connect();
    const deps = {
      ...{ transmission, ...noAnnounces(), buildTime: 0, hooks: [] },
      ...{ nowSeconds: () => 1, log: () => undefined, warn: () => undefined },
    };
    const calls = await countCalls(counted, async () => {
      await Promise.allSettled(await advance(config, deps));
    });
    expect(calls).toEqual(once);
  });
});

describe('a malformed announcement in an intact file', () => {
  it('is decoded once, however often it is asked for', async () => {
    const node = makeApplySide(temporaryDirectory());
    const id = { channel: 'a', version: 1 };
    const stored = { payload: 'A'.repeat(200), acceptedAt: '2026-11-26T00:00:00.000Z' };
    plant(node, id, encodeRecord(stored));
    const held = new HeldUpdates(node.config);
    const calls = await countCalls(counted, async () => {
      for (let round = 0; round < 5; round += 1) {
        expect(held.announcement(id)).toBeUndefined();
        expect(await held.offer(id)).toBeUndefined();
      }
    });
    expect(calls).toEqual({ decodeAnnouncement: 1, verifyAnnouncement: 0 });
  });
});

describe('HeldUpdates', () => {
  it('lists new announcements after a refresh, and does not read the others again', async () => {
    const node = makeApplySide(temporaryDirectory());
    const first = node.receive({ kind: 'file', channel: 'a', name: 'f' }, Buffer.from('1'));
    const held = new HeldUpdates(node.config);
    const seen = held.announcement(first);
    const second = node.receive({ kind: 'file', channel: 'b', name: 'f' }, Buffer.from('2'));
    expect(held.ids.map(({ channel }) => channel)).toEqual(['a']);
    held.refresh();
    expect(held.ids.map(({ channel }) => channel)).toEqual(['a', 'b']);
    expect(held.announcement(first)).toBe(seen);
    expect((await loadVerified(held)).current.map(updateKey).sort()).toEqual(
      [first, second].map(updateKey),
    );
  });

  it('reads a damaged announcement again after a refresh, since it may be repaired', () => {
    const node = makeApplySide(temporaryDirectory());
    const update = node.receive({ kind: 'file', channel: 'a', name: 'f' }, Buffer.from('1'));
    const file = join(announcementsDir(node.config.stateDir), updateKey(update));
    rmSync(file);
    plant(node, update, 'damaged');
    const held = new HeldUpdates(node.config);
    expect(held.announcement(update)).toBeUndefined();
    expect(held.has(update)).toBe(true);
    rmSync(file);
    node.receive(
      { kind: 'file', channel: 'a', name: 'f', version: update.version },
      Buffer.from('1'),
    );
    held.refresh();
    expect(held.announcement(update)?.update.version).toBe(update.version);
  });

  it('counts an announcement under another name as damaged', async () => {
    const node = makeApplySide(temporaryDirectory());
    const update = node.receive({ kind: 'file', channel: 'a', name: 'f' }, Buffer.from('1'));
    const other = { channel: 'a', version: update.version + 1 };
    const { stateDir } = node.config;
    const genuine = join(announcementsDir(stateDir), updateKey(update));
    renameSync(genuine, join(announcementsDir(stateDir), updateKey(other)));
    const held = new HeldUpdates(node.config);
    expect(await held.offer(other)).toBeUndefined();
    expect((await loadVerified(held)).current).toEqual([]);
  });
});

describe('listAccepted', () => {
  it('notices a file that was added within one tick of the clock', () => {
    const node = makeApplySide(temporaryDirectory());
    const { stateDir } = node.config;
    plant(node, { channel: 'a', version: 1 });
    // Later than the start of any listing of this test, on any machine.
    const atMs = Date.now() + 60_000;
    settle(announcementsDir(stateDir), atMs);
    expect(listAccepted(stateDir)).toHaveLength(1);
    plant(node, { channel: 'a', version: 2 });
    settle(announcementsDir(stateDir), atMs);
    expect(listAccepted(stateDir)).toHaveLength(2);
  });

  it('does not read a directory again that has not changed for a while', () => {
    const node = makeApplySide(temporaryDirectory());
    const { stateDir } = node.config;
    plant(node, { channel: 'a', version: 1 });
    settle(announcementsDir(stateDir), Date.now() - 60_000);
    expect(listAccepted(stateDir)).toBe(listAccepted(stateDir));
    plant(node, { channel: 'a', version: 2 });
    expect(listAccepted(stateDir)).toHaveLength(2);
  });

  it('lists the newest 512 of a channel, and 64 channels besides the key sets', () => {
    const node = makeApplySide(temporaryDirectory());
    const { stateDir } = node.config;
    for (let version = 1; version <= 600; version += 1) plant(node, { channel: 'a', version });
    plant(node, { channel: 'keyset', version: 2 });
    expect(listAccepted(stateDir).filter(({ channel }) => channel === 'a')).toEqual(
      Array.from({ length: 512 }, (_, index) => ({ channel: 'a', version: 89 + index })),
    );
    for (let index = 0; index < 200; index += 1) plant(node, { channel: `z${index}`, version: 1 });
    const names = new Set(listAccepted(stateDir).map(({ channel }) => channel));
    expect(names.size).toBe(65);
    expect(names.has('keyset')).toBe(true);
  });
});
