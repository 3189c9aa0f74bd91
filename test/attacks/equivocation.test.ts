import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { updateKey } from '../../lib/announcement/update.ts';
import { equivocationOf, removeHealed } from '../../lib/state/equivocation.ts';
import { HeldUpdates } from '../../lib/state/held.ts';
import { listDirectory } from '../../lib/system/directory.ts';
import { decodeRecord } from '../../lib/system/record.ts';
import { makeAnnouncement, makeKeys, signAnnouncement } from '../support/fleet/announce.ts';
import { type Answer, type LoneNode, makeLoneNode } from '../support/fleet/lone-node.ts';
import { readState } from '../support/run/state.ts';

const now = Math.floor(Date.now() / 1000);

/** The files that a node keeps as proof. */
function proofs({ config }: LoneNode): string[] {
  return listDirectory(join(config.stateDir, 'equivocations'));
}

/** The files that an action adds or changes in the state; it may remove none. */
function changes(node: LoneNode, action: () => void): string[] {
  const before = readState(node.config.stateDir);
  action();
  const after = readState(node.config.stateDir);
  expect(Object.keys(before).filter((path) => after[path] === undefined)).toEqual([]);
  return Object.keys(after).filter((path) => after[path] !== before[path]);
}

function expectRefusal({ status, stderr, event }: Answer): void {
  expect(status).toBe(76);
  expect(stderr).toMatch(/error: equivocation: version \d+ of default[^]*hint: .*higher version/);
  expect(event).toMatchObject({ decision: 'refuse', channel: 'default' });
  expect(event.reason).toMatch(/^equivocation/);
}

describe('two bodies of one version, sent to two halves of the fleet', () => {
  it('are each refused where the other one is, with a warning, and healed by a higher version', () => {
    const keys = makeKeys();
    const make = (version: number, name: string): string =>
      signAnnouncement(makeAnnouncement({ version, name }), keys);
    const bodies = [make(now, 'one.pp'), make(now, 'two.pp')];
    const halves = bodies.map(() => makeLoneNode({}, keys));
    halves.forEach((node, i) => {
      expect(node.send(bodies[i] ?? '').status).toBe(0);
    });
    halves.forEach((node, i) => {
      const other = bodies[1 - i] ?? '';
      const changed = changes(node, () => {
        expectRefusal(node.send(other));
      });
      // The refusal leaves its proof and no other file; once that is there, no file at all.
      expect(changed).toEqual(['equivocations', 'equivocations/default']);
      const file = join(node.config.stateDir, 'equivocations', 'default');
      expect(decodeRecord(readFileSync(file, 'utf8'), file)?.value).toMatchObject({
        version: now,
        payload: other,
      });
      const again = node.send(other);
      expectRefusal(again);
      expect(again.changed).toBe(false);
      expect(equivocationOf(new HeldUpdates(node.config), 'default')).toBe('seen');
    });
    const healing = make(now + 1, 'three.pp');
    for (const node of halves) {
      expect(node.send(healing).status).toBe(0);
      expect(equivocationOf(new HeldUpdates(node.config), 'default')).toBe('none');
      removeHealed(new HeldUpdates(node.config), now);
      expect(proofs(node)).toEqual([]);
    }
  });

  it('are found when they differ in a noop, a target, the time of signing or the signers', () => {
    const keys = makeKeys('test-fleet', 2);
    keys.keySet.releaseThreshold = 1;
    const make = (change: object, signers = keys.releaseKeys.slice(0, 1)): string =>
      signAnnouncement(makeAnnouncement({ version: now, ...change }), keys, signers);
    const fields = { sha256: 'ab'.repeat(32), infoHash: 'ab'.repeat(20), created: now };
    const first = make(fields);
    for (const other of [
      make({ ...fields, noop: true }),
      make({ ...fields, target: 'node=other' }),
      make({ ...fields, created: now + 1 }),
      make(fields, keys.releaseKeys),
    ]) {
      const node = makeLoneNode({}, keys);
      expect(node.send(first).status).toBe(0);
      expectRefusal(node.send(other));
      expect(proofs(node)).toEqual(['default']);
      expect(node.send(first)).toMatchObject({ status: 0, event: { decision: 'ring' } });
    }
  });
});

describe('the proof', () => {
  const keys = makeKeys();
  const make = (fields: Parameters<typeof makeAnnouncement>[0]): string =>
    signAnnouncement(makeAnnouncement(fields), keys);

  it('is not made for a sender without a key of the fleet', () => {
    const node = makeLoneNode({}, keys);
    node.send(make({ version: now }));
    const forged = signAnnouncement(makeAnnouncement({ version: now, name: 'x.pp' }), makeKeys());
    expect(node.send(forged)).toMatchObject({ status: 77, changed: false });
  });

  it('is one file a channel, of the highest version, however many are sent', () => {
    const node = makeLoneNode({}, keys);
    // A lower one of others comes later: it has to be above what those others have.
    node.send(make({ version: now - 1, target: 'node=n2' }));
    node.send(make({ version: now }));
    for (let i = 0; i < 5; i += 1)
      expectRefusal(node.send(make({ version: now, name: `${i}.pp` })));
    expectRefusal(node.send(make({ version: now - 1, name: 'lower.pp' })));
    expect(proofs(node)).toEqual(['default']);
    const file = join(node.config.stateDir, 'equivocations', 'default');
    const { value } = decodeRecord(readFileSync(file, 'utf8'), file) ?? {};
    expect(value).toMatchObject({ version: now });
  });

  it('is not made of a version that is healed already', () => {
    const node = makeLoneNode({}, keys);
    node.send(make({ version: now }));
    node.send(make({ version: now + 1 }));
    const late = node.send(make({ version: now, name: 'late.pp' }));
    expectRefusal(late);
    expect(late.changed).toBe(false);
  });

  it.each<[string, Parameters<typeof makeAnnouncement>[0], boolean]>([
    ['a higher version for all', {}, true],
    ['one for this node', { target: 'node=n1' }, true],
    ['one for other nodes', { target: 'node=nobody' }, false],
    ['a trial', { noop: true }, false],
  ])('of an update for this node is judged healed after %s (%j)', (_, fields, isHealed) => {
    const node = makeLoneNode({}, keys);
    node.send(make({ version: now }));
    node.send(make({ version: now, name: 'two.pp' }));
    expect(node.send(make({ version: now + 1, ...fields })).status).toBe(0);
    removeHealed(new HeldUpdates(node.config), now);
    expect(proofs(node)).toEqual(isHealed ? [] : ['default']);
    expect(equivocationOf(new HeldUpdates(node.config), 'default')).toBe(
      isHealed ? 'none' : 'seen',
    );
  });

  it('of an update for other nodes is healed by a higher version for the same nodes', () => {
    const node = makeLoneNode({}, keys);
    const target = 'role=web';
    node.send(make({ version: now, target }));
    expectRefusal(node.send(make({ version: now, target, name: 'two.pp' })));
    node.send(make({ version: now + 1, target: 'role=db' }));
    expect(equivocationOf(new HeldUpdates(node.config), 'default')).toBe('seen');
    node.send(make({ version: now + 2, target }));
    expect(equivocationOf(new HeldUpdates(node.config), 'default')).toBe('none');
    // Which then takes the place of what it supersedes.
    rmSync(
      join(node.config.stateDir, 'announcements', updateKey({ channel: 'default', version: now })),
    );
    expect(equivocationOf(new HeldUpdates(node.config), 'default')).toBe('none');
  });

  it('counts as unknown when it is damaged, stops no update, and stays for a person to look at', () => {
    const node = makeLoneNode({}, keys);
    node.send(make({ version: now }));
    node.send(make({ version: now, name: 'two.pp' }));
    const file = join(node.config.stateDir, 'equivocations', 'default');
    writeFileSync(file, 'rubbish');
    expect(equivocationOf(new HeldUpdates(node.config), 'default')).toBe('unknown');
    removeHealed(new HeldUpdates(node.config), now);
    expect(proofs(node)).toEqual(['default']);
    expectRefusal(node.send(make({ version: now, name: 'two.pp' })));
    expect(equivocationOf(new HeldUpdates(node.config), 'default')).toBe('seen');
  });
});
