import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { acceptPayload } from '../../../lib/state/accept.ts';
import { advance } from '../../../lib/reconciler/advance/advance.ts';
import { listAccepted } from '../../../lib/state/facts.ts';
import { contentName, updateKey, type Update } from '../../../lib/announcement/update.ts';
import type { Config } from '../../../lib/config.ts';
import { makeApplySide, type ApplySide } from '../../support/fleet/apply-side.ts';
import { MemoryTransmission, noAnnounces } from '../../support/fleet/memory-transmission.ts';
import { temporaryDirectory } from '../../support/run/temporary.ts';

const now = Math.floor(Date.now() / 1000);

/** Makes a node that has received many versions, and applied them one by one. */
async function makeUsedNode(
  count: number,
  change: Partial<Config> = {},
): Promise<{ node: ApplySide; updates: Update[] }> {
  const node = makeApplySide(temporaryDirectory(), change);
  const updates: Update[] = [];
  for (let index = 0; index < count; index += 1) {
    const change = { kind: 'manifest', name: 'a.pp', version: now + index } as const;
    updates.push(node.receive(change, Buffer.from(`# ${index}\n`)));
    await node.apply();
  }
  return { node, updates };
}

/** Runs a pass of advance with a daemon that has no torrents. */
const pass = async ({ config }: ApplySide, freeBytes = 2 ** 40): Promise<void> => {
  const daemon = new MemoryTransmission(new Map(), config.downloadDir).connect();
  const tasks = await advance(config, {
    transmission: { ...daemon, freeSpace: () => Promise.resolve(freeBytes) },
    ...noAnnounces(),
    nowSeconds: () => now,
    buildTime: 0,
    log: () => undefined,
    warn: () => undefined,
    hooks: [],
  });
  await Promise.all(tasks);
};

const names = (directory: string): string[] => readdirSync(directory).sort();

describe('after many updates a node', () => {
  it.each([3, 1])(
    'holds the newest %i with their content, and refuses all the others',
    async (keepVersions) => {
      const { node, updates } = await makeUsedNode(20, { keepVersions });
      const { stateDir, downloadDir } = node.config;
      await pass(node);
      await pass(node);
      const kept = updates.slice(-keepVersions);
      expect(listAccepted(stateDir).map(updateKey)).toEqual(kept.map(updateKey));
      expect(names(downloadDir)).toEqual(kept.map(contentName).sort());
      for (const { payload } of updates.slice(0, -1)) {
        const { decision } = await acceptPayload(Buffer.from(payload), node.config, {
          nowSeconds: now,
          buildTime: 0,
        });
        expect(decision.kind).toBe('refuse');
        expect(decision.reason).toMatch(/older/);
      }
      // Put back by the owner of the store: the high-water mark of the apply side holds as well.
      const applied = names(join(node.config.applyDir, 'outcomes'));
      for (const update of updates.slice(0, 3)) {
        node.receive(
          { kind: 'manifest', name: 'a.pp', version: update.version },
          Buffer.from('# x'),
        );
        expect(await node.apply()).toEqual([]);
      }
      expect(names(join(node.config.applyDir, 'outcomes'))).toEqual(applied);
    },
  );

  it('gives up the content of earlier versions when a new one needs the space', async () => {
    const { node } = await makeUsedNode(4);
    const update = node.receive(
      { kind: 'manifest', name: 'b.pp', version: now + 9 },
      Buffer.from('# b'),
    );
    await Promise.allSettled([pass(node)]);
    expect(names(node.config.downloadDir)).toHaveLength(4);
    await expect(pass(node, 0)).rejects.toThrow(/0 bytes free/);
    expect(names(node.config.downloadDir)).toEqual([contentName(update)]);
  });

  it('keeps the newest 16 outcomes and their logs, and nothing staged', async () => {
    const { node, updates } = await makeUsedNode(20);
    const { applyDir } = node.config;
    const at = (...parts: string[]): string => join(applyDir, ...parts);
    // Foreign files are not ours to remove.
    for (const name of ['outcomes', 'runs', 'staging']) {
      writeFileSync(at(name, 'notes.txt'), '');
      mkdirSync(at(name, 'default'));
    }
    // Killed between the outcome and the removal of the copy.
    const [first, last] = [updates[0], updates.at(-1)] as [Update, Update];
    mkdirSync(at('staging', updateKey(last)));
    writeFileSync(at('runs', `${updateKey(first)}-1.log`), '');
    await node.apply();
    const kept = updates.slice(4).map(updateKey);
    const foreign = ['default', 'notes.txt'];
    const outcomes = names(at('outcomes')).filter((name) => !name.endsWith('.previous'));
    expect(outcomes).toEqual([...kept, ...foreign].sort());
    expect(names(at('runs'))).toEqual([...kept.map((key) => `${key}-1.log`), ...foreign].sort());
    expect(names(at('staging'))).toEqual(foreign);
    expect(existsSync(at('outcomes', `${updateKey(first)}.previous`))).toBe(false);
  });
});
