import { describe, expect, it } from 'vitest';
import { makeAnnouncement, makeKeys, signAnnouncement } from '../support/announce.ts';
import { makeLoneNode } from '../support/lone-node.ts';

const now = Math.floor(Date.now() / 1000);

describe('two bodies of one version, sent to two halves of the fleet', () => {
  it('are each refused where the other one is, loudly, and healed by a higher version', () => {
    const keys = makeKeys();
    const make = (version: number, name: string): string =>
      signAnnouncement(makeAnnouncement({ version, name }), keys);
    const bodies = [make(now, 'one.pp'), make(now, 'two.pp')];
    const halves = bodies.map(() => makeLoneNode({}, keys));
    halves.forEach((node, i) => {
      expect(node.send(bodies[i] ?? '').status).toBe(0);
    });
    halves.forEach((node, i) => {
      const { status, stderr, event, changed } = node.send(bodies[1 - i] ?? '');
      expect({ status, changed }).toEqual({ status: 76, changed: false });
      expect(stderr).toMatch(
        /error: equivocation: version \d+ of default[^]*hint: .*higher version/,
      );
      expect(event).toMatchObject({ decision: 'refuse', version: now, channel: 'default' });
      expect(event.reason).toMatch(/^equivocation/);
    });
    const healing = make(now + 1, 'three.pp');
    for (const node of halves) expect(node.send(healing).status).toBe(0);
  });

  it('is seen whatever differs: a noop, a target, the time of signing, the signers', () => {
    const keys = makeKeys('test-fleet', 2);
    keys.keySet.releaseThreshold = 1;
    const make = (change: object, signers = keys.releaseKeys.slice(0, 1)): string =>
      signAnnouncement(makeAnnouncement({ version: now, ...change }), keys, signers);
    const node = makeLoneNode({}, keys);
    const fields = { sha256: 'ab'.repeat(32), infoHash: 'ab'.repeat(20), created: now };
    const first = make(fields);
    expect(node.send(first).status).toBe(0);
    for (const other of [
      make({ ...fields, noop: true }),
      make({ ...fields, target: 'node=other' }),
      make({ ...fields, created: now + 1 }),
      make(fields, keys.releaseKeys),
    ])
      expect(node.send(other)).toMatchObject({ status: 76, changed: false });
    expect(node.send(first)).toMatchObject({ status: 0, event: { decision: 'ring' } });
  });
});
