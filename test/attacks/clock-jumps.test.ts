import { createHash } from 'node:crypto';
import { existsSync, readFileSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import type { Announcement } from '../../lib/announcement/fields.ts';
import { contentName, parseAnnouncement, updateKey } from '../../lib/announcement/update.ts';
import { advance } from '../../lib/reconciler/advance/advance.ts';
import { listAccepted } from '../../lib/state/facts.ts';
import { outcomesDir } from '../../lib/state/layout.ts';
import { newProgress } from '../../lib/state/progress.ts';
import { removeLeftOvers } from '../../lib/system/durable-write.ts';
import { replaceRecord } from '../../lib/system/record.ts';
import { makeAnnouncement, signAnnouncement } from '../support/fleet/announce.ts';
import { type LoneNode, makeLoneNode } from '../support/fleet/lone-node.ts';
import { MemoryTransmission, noAnnounces } from '../support/fleet/memory-transmission.ts';
import { clockOf } from '../support/run/faketime.ts';

const day = 86_400;
const now = Math.floor(Date.now() / 1000);

let ahead: Record<string, string>;
beforeAll(() => {
  ahead = clockOf(400);
});

/** Signs a file of this content, `created` by the signer's clock. */
function signFile(
  node: LoneNode,
  content: string,
  created: number,
  more: Partial<Announcement> = {},
): string {
  const sha256 = createHash('sha256').update(content).digest('hex');
  const made = makeAnnouncement({
    ...{ kind: 'file', name: 'motd', version: created, created, expires: created + day },
    ...{ length: content.length, sha256, infoHash: sha256.slice(0, 40) },
    ...{ pieces: new Uint8Array(), ...more },
  });
  return signAnnouncement(made, node.keys);
}

const motdOf = (node: LoneNode): string =>
  readFileSync(join(node.config.deliveryDir, 'motd'), 'utf8');

describe('a channel on which this node took an update while its clock was 400 days ahead', () => {
  /** Takes and applies one update rightly, and one by the wrong clock. */
  async function wedge(): Promise<LoneNode> {
    const node = makeLoneNode();
    const first = signFile(node, 'first', now - 60);
    expect(node.send(first).status).toBe(0);
    node.download(first, Buffer.from('first'));
    await node.apply();
    const future = signFile(node, 'future', now + 400 * day);
    expect(node.send(future, ahead).status).toBe(0);
    node.download(future, Buffer.from('future'));
    await node.apply(now + 400 * day);
    expect(motdOf(node)).toBe('future');
    return node;
  }

  it('takes and applies the next update, although its version is lower', async () => {
    const node = await wedge();
    const next = signFile(node, 'next', now);
    const { decision, reason } = node.send(next).event;
    expect(`${decision}: ${reason}`).toMatch(/^accept: newer than/);
    expect(listAccepted(node.config.stateDir).map(({ version }) => version)).toEqual([
      now - 60,
      now,
    ]);
    node.download(next, Buffer.from('next'));
    await node.apply();
    expect(motdOf(node)).toBe('next');
    // The one after it is not held up once the time of the wrong one has come.
    const later = now + 395 * day;
    const last = signFile(node, 'last', later);
    expect(node.send(last, clockOf(395)).status).toBe(0);
    node.download(last, Buffer.from('last'));
    await node.apply(later);
    expect(motdOf(node)).toBe('last');
  });

  it('applies content anew that it had before the wrong one', async () => {
    const node = await wedge();
    const back = signFile(node, 'first', now);
    expect(node.send(back).status).toBe(0);
    node.download(back, Buffer.from('first'));
    await node.apply();
    expect(motdOf(node)).toBe('first');
  });

  it('takes a withdrawal, and an update after it', async () => {
    const node = await wedge();
    const none = { sha256: '0'.repeat(64), infoHash: '0'.repeat(40), length: 0, pieceLength: 0 };
    expect(node.send(signFile(node, '', now, { kind: 'withdraw', ...none })).status).toBe(0);
    await node.apply();
    const next = signFile(node, 'first', now + 1);
    expect(node.send(next).status).toBe(0);
    node.download(next, Buffer.from('first'));
    await node.apply();
    expect(motdOf(node)).toBe('first');
  });

  it('lets nothing of the past in by it', async () => {
    const node = await wedge();
    for (const created of [now - 61, now - 20 * day])
      expect(node.send(signFile(node, 'past', created, { expires: now + day }))).toMatchObject({
        ...{ status: 76, changed: false },
      });
  });
});

describe('a clock that jumps while an update waits', () => {
  const hour = 3600;
  const [past, future] = [now - 400 * day, now + 400 * day];
  const content = Buffer.from('content');

  /** A node that has taken an update, and whose daemon is about to download it. */
  function waiting(more: Partial<Announcement> = {}) {
    const node = makeLoneNode();
    const payload = signFile(node, 'content', now - 60, { expires: now + 30 * day, ...more });
    expect(node.send(payload).status).toBe(0);
    const { update } = parseAnnouncement(payload);
    const swarm = { name: contentName(update), pieceLength: 16_384, bytes: content };
    const daemon = new MemoryTransmission(
      new Map([[update.infoHash, swarm]]),
      node.config.downloadDir,
    );
    /** Runs both sides at a time, until nothing is left to do. */
    const runAt = async (at: number): Promise<void> => {
      for (let round = 1; round <= 3; round += 1) {
        const tasks = await advance(node.config, {
          ...noAnnounces(),
          transmission: daemon.connect(),
          nowSeconds: () => at,
          buildTime: 0,
          log: () => undefined,
          warn: () => undefined,
          hooks: ['/hook'],
        });
        await Promise.all(tasks);
        await node.apply(at);
      }
    };
    const stateOf = () => node.outcomeOf(update)?.state;
    return { node, update, daemon, runAt, stateOf };
  }

  const inode = ({ config }: LoneNode): bigint =>
    statSync(join(config.deliveryDir, 'motd'), { bigint: true }).ino;

  it('does not apply it while it is behind, since expiry cannot be told; then once', async () => {
    const { node, daemon, runAt, stateOf } = waiting();
    await runAt(now);
    daemon.download();
    await runAt(past);
    expect({ state: stateOf(), delivered: node.delivered() }).toEqual({ delivered: [] });
    await runAt(now + 5);
    expect(stateOf()).toBe('APPLIED');
    const file = inode(node);
    for (const at of [past, future, now + 10]) await runAt(at);
    expect({ state: stateOf(), file: inode(node) }).toEqual({ state: 'APPLIED', file });
  });

  it('has it expire while it is ahead, and keeps its content: no other node may have it', async () => {
    const { node, update, daemon, runAt, stateOf } = waiting({ notBefore: now + hour });
    await runAt(now);
    daemon.download();
    await runAt(now + 5);
    expect(stateOf()).toBeUndefined();
    await runAt(future);
    expect(stateOf()).toBe('EXPIRED');
    expect(existsSync(join(node.config.downloadDir, contentName(update)))).toBe(true);
    await runAt(now + 10);
    expect(node.delivered()).toEqual([]);
    await runAt(now + hour);
    expect(stateOf()).toBe('APPLIED');
    expect(motdOf(node)).toBe('content');
  });

  it('removes the content of one that has expired for a day', async () => {
    const { node, update, daemon, runAt } = waiting({ notBefore: now + hour });
    await runAt(now);
    daemon.download();
    await runAt(now + 31 * day);
    const file = join(node.config.downloadDir, contentName(update));
    expect(existsSync(file)).toBe(true);
    await runAt(now + 32 * day + 1);
    expect(existsSync(file)).toBe(false);
  });

  it('does not hold up another try of one that failed meanwhile, nor give it up', async () => {
    const { node, update, daemon, runAt, stateOf } = waiting();
    await runAt(now);
    daemon.download();
    const fail = (nextTryAt: number): void => {
      const failed = { ...newProgress(update), state: 'FAILED' as const, tries: 1, nextTryAt };
      replaceRecord(join(outcomesDir(node.config.applyDir), updateKey(update)), failed, 0o644);
    };
    await node.apply(past);
    fail(now + 60);
    await runAt(now + 5);
    expect(stateOf()).toBe('FAILED');
    await runAt(future);
    expect(stateOf()).toBe('EXPIRED');
    fail(future + 60);
    await runAt(now + 5);
    expect(stateOf()).toBe('APPLIED');
  });

  it('leaves no remains of a killed writer behind', () => {
    const { node } = waiting();
    const file = join(node.config.stateDir, '.tmp-1-abc-1');
    for (const [modified, isLeft] of [
      [future, false],
      [past, false],
      [now - 5, true],
    ] as const) {
      writeFileSync(file, '');
      utimesSync(file, modified, modified);
      removeLeftOvers(node.config.stateDir, now * 1000);
      expect(existsSync(file)).toBe(isLeft);
    }
  });
});
