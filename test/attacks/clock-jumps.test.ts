import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import type { Announcement } from '../../lib/announcement/fields.ts';
import { listAccepted } from '../../lib/state/facts.ts';
import { makeAnnouncement, signAnnouncement } from '../support/fleet/announce.ts';
import { type LoneNode, makeLoneNode } from '../support/fleet/lone-node.ts';
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
