import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { makeAnnouncement, makeKeys, signAnnouncement } from '../support/fleet/announce.ts';
import { makeLoneNode, type LoneNode } from '../support/fleet/lone-node.ts';
import { clockOf } from '../support/run/faketime.ts';

const filesIn = (node: LoneNode, name: string): string[] => {
  const directory = join(node.config.stateDir, name);
  return existsSync(directory) ? readdirSync(directory) : [];
};

let in1970: Record<string, string>;
beforeAll(() => {
  in1970 = clockOf('1970-01-02 00:00:00');
});

describe('a clock of 1970 (libfaketime on the real handler)', () => {
  it('keeps one verified announcement a channel, moves no mark, and is done once the clock is right', () => {
    const keys = makeKeys();
    const node = makeLoneNode({}, keys);
    const now = Math.floor(Date.now() / 1000);
    const make = (version: number): string => signAnnouncement(makeAnnouncement({ version }), keys);
    for (const version of [now + 1, now + 2, now]) {
      const { status, stderr, event } = node.send(make(version), in1970);
      expect({ status, decision: event.decision }).toEqual({ status: 75, decision: 'wait' });
      expect(stderr).toMatch(/error: the clock says 1970-01-02[^]*hint: set the clock/);
    }
    expect(filesIn(node, 'pending')).toEqual(['default']);
    expect(filesIn(node, 'announcements')).toEqual([]);
    // The mark did not move: an older version than the one that waits is still accepted.
    expect(node.send(make(now)).status).toBe(0);
    expect(node.send(make(now + 2)).status).toBe(0);
  });

  it('neither accepts nor refuses by time: an expired or future announcement waits too', () => {
    for (const change of [
      { created: 1, expires: 2 },
      { created: 2 ** 32 - 3, expires: 2 ** 32 - 1 },
    ]) {
      const node = makeLoneNode();
      expect(node.announce(change).status).toBe(76);
      const payload = signAnnouncement(makeAnnouncement(change), node.keys);
      expect(node.send(payload, in1970).status).toBe(75);
      expect(filesIn(node, 'announcements')).toEqual([]);
    }
  });

  it('keeps no announcement that is not trusted, or is for other nodes', () => {
    const node = makeLoneNode();
    const forged = signAnnouncement(makeAnnouncement(), makeKeys());
    expect(node.send(forged, in1970)).toMatchObject({ status: 77, changed: false });
    for (const change of [{ target: 'node=other' }, { noop: true }]) {
      const payload = signAnnouncement(makeAnnouncement(change), node.keys);
      expect(node.send(payload, in1970)).toMatchObject({ status: 75, changed: false });
    }
  });
});

describe('a clock that is a little wrong', () => {
  it.each([
    ['refuses an update when it is eleven minutes behind the submitter', 660, 76],
    ['accepts an update when it is nine minutes behind the submitter', 540, 0],
  ])('%s', (_, secondsBehind, expected) => {
    const node = makeLoneNode({ channels: ['default'] });
    // By its own creation, so that the software is never older than the clock.
    const now = Math.floor(Date.now() / 1000);
    const change = { created: now + secondsBehind, expires: now + 3600 };
    const { status, stderr, changed } = node.announce(change);
    expect({ status, changed }).toEqual({ status: expected, changed: expected === 0 });
    if (expected === 76) expect(stderr).toMatch(/in the future[^]*hint: set the clocks/);
  });

  it('refuses an update that has expired by then when it is a year ahead', () => {
    const node = makeLoneNode();
    const payload = signAnnouncement(makeAnnouncement(), node.keys);
    expect(node.send(payload, clockOf(366))).toMatchObject({ status: 76, changed: false });
  });
});
