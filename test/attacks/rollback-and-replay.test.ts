import { describe, expect, it } from 'vitest';
import { buildTime } from '../../lib/build.ts';
import { UpdateError } from '../../lib/errors.ts';
import { acceptPayload } from '../../lib/state/accept.ts';
import { loadVerified } from '../../lib/state/candidates.ts';
import { HeldUpdates } from '../../lib/state/held.ts';
import { makeAnnouncement, makeKeys, signAnnouncement } from '../support/fleet/announce.ts';
import { makeLoneNode } from '../support/fleet/lone-node.ts';

const now = Math.floor(Date.now() / 1000);
const keys = makeKeys();
const make = (version: number, change = {}): string =>
  signAnnouncement(makeAnnouncement({ version, ...change }), keys);

/** The events that an attacker has recorded: three updates, one for other nodes, and a noop. */
const history = [
  make(now),
  make(now + 1),
  make(now + 2),
  make(now + 3, { target: 'node=somebody-else' }),
  make(now + 4, { noop: true }),
];

function permutations<T>(list: readonly T[]): T[][] {
  if (list.length < 2) return [[...list]];
  return list.flatMap((first, i) =>
    permutations(list.filter((_, j) => j !== i)).map((rest) => [first, ...rest]),
  );
}

describe('a replay of the whole history', () => {
  it('ends at the newest in all orders, and never goes back on the way', async () => {
    const orders = permutations(history);
    expect(orders).toHaveLength(120);
    for (const order of orders) {
      const { config } = makeLoneNode({}, keys);
      let top = 0;
      // Twice, since what was accepted once may be tried again.
      for (const payload of [...order, ...order]) {
        await acceptPayload(Buffer.from(payload), config, { nowSeconds: now, buildTime }).catch(
          (error: unknown) => {
            if (!(error instanceof UpdateError)) throw error;
          },
        );
        const { current } = await loadVerified(new HeldUpdates(config));
        const version = current.find(({ noop }) => !noop)?.version ?? 0;
        expect(version).toBeGreaterThanOrEqual(top);
        top = version;
      }
      expect(top).toBe(now + 2);
    }
  });

  it('is refused by the handler, and changes nothing', () => {
    const node = makeLoneNode({}, keys);
    const newest = history[2] ?? '';
    expect(node.send(newest).status).toBe(0);
    for (const old of history.slice(0, 2)) {
      const { status, stderr, event, changed } = node.send(old);
      expect({ status, changed }).toEqual({ status: 76, changed: false });
      expect(stderr).toMatch(/error: .*older[^]*hint: /);
      expect(event).toMatchObject({ decision: 'refuse', channel: 'default' });
    }
    expect(node.send(newest)).toMatchObject({ status: 0, event: { decision: 'ring' } });
  });
});

describe('the mark of a channel', () => {
  it('is not moved by an announcement for other nodes, nor by a noop', () => {
    const node = makeLoneNode({}, keys);
    expect(node.send(history[3] ?? '').status).toBe(0);
    expect(node.send(history[4] ?? '').status).toBe(0);
    for (const payload of history.slice(0, 3)) expect(node.send(payload).status).toBe(0);
  });

  it('is moved by an announcement that targets this node', () => {
    const node = makeLoneNode({ tags: { role: 'web' } }, keys);
    expect(node.send(make(now + 9, { target: 'role=web' })).status).toBe(0);
    expect(node.send(make(now + 8))).toMatchObject({ status: 76, changed: false });
  });

  it('holds noops back by a mark of their own, and by newer updates', () => {
    const node = makeLoneNode({}, keys);
    expect(node.send(make(now + 5, { noop: true })).status).toBe(0);
    expect(node.send(make(now + 4, { noop: true }))).toMatchObject({ status: 76, changed: false });
    expect(node.send(make(now + 7)).status).toBe(0);
    expect(node.send(make(now + 6, { noop: true }))).toMatchObject({ status: 76, changed: false });
  });

  it('is kept by the apply side itself, which applies no older announcement in place of a newer one', async () => {
    const node = makeLoneNode({}, keys);
    const newer = node.receive({ kind: 'file', name: 'a' }, Buffer.from('new'));
    await node.apply();
    expect(node.outcomeOf(newer)?.state).toBe('APPLIED');
    // An attacker with the state directory takes the newer one away, and offers an older one.
    node.forget();
    const older = node.receive({ kind: 'file', name: 'a', version: 5 }, Buffer.from('old'));
    await node.apply();
    expect(node.outcomeOf(older)).toBeUndefined();
  });
});
