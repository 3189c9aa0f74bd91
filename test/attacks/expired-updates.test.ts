import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { makeAnnouncement, signAnnouncement } from '../support/fleet/announce.ts';
import { makeLoneNode } from '../support/fleet/lone-node.ts';

const now = Math.floor(Date.now() / 1000);
const content = Buffer.from('late');
const sha256 = createHash('sha256').update(content).digest('hex');
const fields = {
  kind: 'file' as const,
  name: 'late.txt',
  sha256,
  infoHash: sha256.slice(0, 40),
  length: content.length,
  pieces: new Uint8Array(),
  expires: now + 60,
};

describe('an update that has expired', () => {
  it('is refused by the handler', () => {
    const node = makeLoneNode();
    const { status, stderr, changed } = node.announce({ created: now - 10, expires: now - 1 });
    expect({ status, changed }).toEqual({ status: 76, changed: false });
    expect(stderr).toMatch(/error: it expired at[^]*hint: submit it again/);
    expect(node.announce().status).toBe(0);
  });

  it('is not applied when it expires during its download', async () => {
    const node = makeLoneNode();
    const payload = signAnnouncement(makeAnnouncement(fields), node.keys);
    expect(node.send(payload).status).toBe(0);
    const update = node.download(payload, content);
    await node.apply(now + 61);
    expect(node.outcomeOf(update)?.state).toBe('EXPIRED');
    expect(node.delivered()).toEqual([]);
  });

  it('is not applied when it expires after it was staged, before its time has come', async () => {
    const node = makeLoneNode();
    const payload = signAnnouncement(
      makeAnnouncement({ ...fields, notBefore: now + 30 }),
      node.keys,
    );
    expect(node.send(payload).status).toBe(0);
    const update = node.download(payload, content);
    await node.apply(now);
    expect(node.outcomeOf(update)).toBeUndefined();
    await node.apply(now + 61);
    expect(node.outcomeOf(update)?.state).toBe('EXPIRED');
    expect(node.delivered()).toEqual([]);
  });

  it('is applied up to the moment of its expiry', async () => {
    const node = makeLoneNode();
    const payload = signAnnouncement(makeAnnouncement(fields), node.keys);
    node.send(payload);
    const update = node.download(payload, content);
    await node.apply(now + 59);
    expect(node.outcomeOf(update)?.state).toBe('APPLIED');
    expect(node.delivered()).toEqual(['late.txt']);
  });
});
