import { createHash } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import type { Announcement } from '../../lib/announcement/fields.ts';
import { makeAnnouncement, makeKeys, signAnnouncement } from '../support/fleet/announce.ts';
import { type LoneNode, makeLoneNode } from '../support/fleet/lone-node.ts';

const now = Math.floor(Date.now() / 1000);
const withdrawal = (change: Partial<Announcement> = {}): Announcement =>
  makeAnnouncement({
    kind: 'withdraw',
    name: 'withdraw',
    infoHash: '0'.repeat(40),
    sha256: '0'.repeat(64),
    length: 0,
    pieceLength: 0,
    pieces: new Uint8Array(),
    version: now + 10,
    ...change,
  });

/** Announces a file to a node, as if its content had been downloaded as well. */
function makeUpdate(node: LoneNode, change: Partial<Announcement> = {}) {
  const content = Buffer.from('stop me');
  const sha256 = createHash('sha256').update(content).digest('hex');
  const hashes = { sha256, infoHash: sha256.slice(0, 40), length: content.length };
  const payload = signAnnouncement(
    makeAnnouncement({
      kind: 'file',
      name: 'a',
      version: now,
      pieces: new Uint8Array(),
      ...hashes,
      ...change,
    }),
    node.keys,
  );
  return { payload, content };
}

/** Announces an update that the node accepts and has downloaded. */
function receive(node: LoneNode, change: Partial<Announcement> = {}) {
  const { payload, content } = makeUpdate(node, change);
  expect(node.send(payload).status).toBe(0);
  return node.download(payload, content);
}

describe('a withdrawal', () => {
  it('stops an update that is downloaded and not applied', async () => {
    const node = makeLoneNode();
    const update = receive(node);
    expect(node.send(signAnnouncement(withdrawal(), node.keys)).status).toBe(0);
    await node.apply();
    expect(node.outcomeOf(update)).toBeUndefined();
    expect(node.delivered()).toEqual([]);
  });

  it('stops an update that waits for another try', async () => {
    const node = makeLoneNode();
    writeFileSync(node.config.puppet.command, '#!/bin/sh\nexit 4\n', { mode: 0o755 });
    const update = receive(node, { kind: 'manifest', name: 'a.pp' });
    await node.apply();
    expect(node.outcomeOf(update)?.state).toBe('FAILED');
    node.send(signAnnouncement(withdrawal(), node.keys));
    await node.apply(now + 100);
    expect(node.outcomeOf(update)).toMatchObject({
      state: 'WITHDRAWN',
      tries: 1,
      reason: `withdrawn by version ${now + 10}`,
    });
  });

  it('leaves alone applied updates, other channels, and nodes that it does not target', async () => {
    const node = makeLoneNode();
    const applied = receive(node);
    await node.apply();
    node.send(signAnnouncement(withdrawal(), node.keys));
    const other = receive(node, { channel: 'other', name: 'b' });
    const untouched = receive(node, { channel: 'third', name: 'c' });
    node.send(signAnnouncement(withdrawal({ channel: 'third', target: 'node=n2' }), node.keys));
    await node.apply();
    for (const update of [applied, other, untouched])
      expect(node.outcomeOf(update)?.state).toBe('APPLIED');
  });

  it('cannot be forged, nor replayed over a newer update', () => {
    const node = makeLoneNode();
    const forged = signAnnouncement(withdrawal(), makeKeys());
    expect(node.send(forged)).toMatchObject({ status: 77, changed: false });
    const genuine = signAnnouncement(withdrawal(), node.keys);
    expect(node.send(genuine).status).toBe(0);
    expect(node.announce({ version: now + 11 }).status).toBe(0);
    expect(node.send(genuine)).toMatchObject({ status: 76, changed: false });
  });

  it('holds the mark on the apply side too, where a stopped update does not come back', async () => {
    const node = makeLoneNode();
    node.send(signAnnouncement(withdrawal(), node.keys));
    await node.apply();
    // An attacker with the store hides the withdrawal.
    node.forget();
    const { payload, content } = makeUpdate(node);
    expect(node.send(payload).status).toBe(76);
    node.plant(payload);
    const update = node.download(payload, content);
    await node.apply();
    expect(node.outcomeOf(update)).toBeUndefined();
    expect(node.delivered()).toEqual([]);
  });

  it('ends with the next update of the channel', async () => {
    const node = makeLoneNode();
    node.send(signAnnouncement(withdrawal(), node.keys));
    await node.apply();
    const update = receive(node, { version: now + 11 });
    await node.apply();
    expect(node.outcomeOf(update)?.state).toBe('APPLIED');
  });
});
