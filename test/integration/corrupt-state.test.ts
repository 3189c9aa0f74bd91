import { readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { UpdateError } from '../../lib/errors.ts';
import { damages, everyDamageOf } from './damage.ts';
import { DamagedNode, a1, a2, a6, b3, b4, b7, keyOf } from '../support/history/damaged-node.ts';
import { secondKeySet } from '../support/history/node.ts';

/** The outcome of an action: its result, or the code of its refusal; anything else is a fault of ours. */
async function outcomeOf(action: () => unknown): Promise<string> {
  try {
    return String(await action());
  } catch (error) {
    if (error instanceof UpdateError) return error.code;
    throw error;
  }
}

function filesBelow(directory: string): string[] {
  return (readdirSync(directory, { recursive: true }) as string[]).filter((name) =>
    statSync(join(directory, name)).isFile(),
  );
}

const applied = [a2, b3, secondKeySet];
/** Of all damages of a record so many are left out; `npm run crash -- --part histories` has every one. */
const everyNth = Number(process.env['DAMAGE_EVERY'] ?? 10);

/** Every record that the node has, relative to its directory. */
function recordsOf({ directory }: DamagedNode): string[] {
  const isRecord = /^(state\/(announcements|pending|updates)|apply\/(outcomes|keysets))\//;
  return filesBelow(directory).filter(
    (name) => isRecord.test(name) || /^(apply\/run|state\/catch-up)(\.previous)?$/.test(name),
  );
}

describe('a record', () => {
  it('with any bit flipped, or cut anywhere, brings no old update back and none twice', async () => {
    const place = await DamagedNode.make();
    const { node } = place;
    const records = recordsOf(place);
    expect(records.length).toBeGreaterThan(20);
    let count = 0;
    let tried = 0;
    for (const name of records) {
      const file = join(place.directory, name);
      const genuine = readFileSync(file);
      for (const [what, damaged] of everyDamageOf(genuine)) {
        count += 1;
        if (count % everyNth !== 0) continue;
        tried += 1;
        writeFileSync(file, damaged);
        const marks = await outcomeOf(() => `${node.mark(a6)} ${node.mark(b7)}`);
        const epoch = await outcomeOf(() => node.epoch);
        const state = await outcomeOf(() => node.stateOf(applied[tried % 3] ?? a2));
        // The whole way in takes longer.
        const old = tried % 8 === 0 ? await outcomeOf(() => node.deliver(a1)) : 'refuse';
        const isSafe =
          [`${a2.version} ${b4.version}`, 'configuration'].includes(marks) &&
          ['2', 'configuration'].includes(epoch) &&
          ['APPLIED', 'configuration'].includes(state) &&
          ['refuse', 'configuration'].includes(old);
        if (!isSafe) throw new Error(`${name}, ${what}: ${[marks, epoch, state, old].join()}`);
      }
      rmSync(`${file}.corrupt`, { force: true });
      writeFileSync(file, genuine);
    }
    expect(count).toBeGreaterThan(10_000);
    expect(tried).toBe(Math.floor(count / everyNth));
  });
});

/** Updates that may be run after any damage: those that were staged, or waited for the clock. */
const due = ['b two', 'c one'];

describe('a damaged record', () => {
  it.each(damages)('that is %s runs no update again, and holds up no other', async (_, damage) => {
    const place = await DamagedNode.make();
    for (const name of recordsOf(place).filter((each) => !each.endsWith('.previous'))) {
      const node = place.restore();
      damage(join(place.directory, name));
      const told = `${name}: `;
      const before = await place.reconcile();
      expect(due, told + before.ran.join()).toEqual(expect.arrayContaining(before.ran));
      expect(codesOf(before.errors), told).toEqual(
        codesOf(before.errors).map(() => 'configuration'),
      );
      expect(['refuse', 'configuration'], told).toContain(await outcomeOf(() => node.deliver(a1)));
      const isForAll = name.startsWith('apply/keysets');
      expect(await outcomeOf(() => node.deliver(a6)), told).toBe(
        isForAll ? 'configuration' : 'accept',
      );
      // The same bytes, or a newer version, put it right.
      for (const each of [a2, b4, b7]) await outcomeOf(() => node.deliver(each));
      const after = await place.reconcile();
      const ran = [...before.ran, ...after.ran];
      expect(ran.filter((each) => each.endsWith('three')).sort(), told).toEqual(
        isForAll ? [] : ['a three', 'b three'],
      );
      expect(new Set(ran).size, told).toBe(ran.length);
    }
  });

  it('whose generation before is damaged too is refused, which holds up no other update', async () => {
    const place = await DamagedNode.make();
    const twice = recordsOf(place).filter((each) => each.endsWith('.previous'));
    expect(twice.length).toBeGreaterThan(6);
    for (const name of twice) {
      const node = place.restore();
      const file = join(place.directory, name);
      writeFileSync(file, '');
      writeFileSync(file.replace(/\.previous$/, ''), '');
      const { ran, errors } = await place.reconcile();
      const isRun = name.startsWith('apply/run');
      expect(ran.sort(), name).toEqual(isRun ? [] : due);
      // Older updates are not considered any more.
      if (isRun || name.includes(keyOf(a2)))
        expect(codesOf(errors), name).toContain('configuration');
      expect(await outcomeOf(() => node.deliver(a1)), name).toBe('refuse');
    }
  });
});

function codesOf(errors: readonly unknown[]): unknown[] {
  return errors.map((error) => (error instanceof UpdateError ? error.code : error));
}

describe('a lost directory', () => {
  const lose = async (name: string): Promise<DamagedNode> => {
    const place = await DamagedNode.make();
    place.restore();
    rmSync(join(place.directory, name), { recursive: true });
    return place;
  };

  it.each(['state/announcements', 'state/updates', 'state'])(
    '%s lets no older update in again, and the current ones come back',
    async (name) => {
      const place = await lose(name);
      const { node } = place;
      for (const old of [a1, b3]) expect(await node.deliver(old)).toBe('refuse');
      expect((await place.reconcile()).errors).toEqual([]);
      for (const old of [a1]) expect(await node.deliver(old)).toBe('refuse');
      for (const each of [a2, b4]) expect(['accept', 'ring']).toContain(await node.deliver(each));
      const { ran, errors } = await place.reconcile();
      expect(errors).toEqual([]);
      expect(ran).not.toContain('a two');
      expect(node.stateOf(b4)).toBe('APPLIED');
      for (const each of [a6, b7]) expect(await node.deliver(each)).toBe('accept');
      expect((await place.reconcile()).ran).toEqual(['a three', 'b three']);
    },
  );

  it('of outcomes is refused, since current updates would be applied again', async () => {
    const place = await lose('apply/outcomes');
    const { ran, errors } = await place.reconcile();
    expect(ran).toEqual([]);
    expect(codesOf(errors)).toEqual(['configuration']);
    expect(String(errors[0])).toMatch(/the record of applied updates is gone/);
  });

  it('of key sets is refused, since an older one must not come back', async () => {
    const place = await lose('apply/keysets');
    const { ran, errors } = await place.reconcile();
    expect(ran).toEqual([]);
    expect(codesOf(errors)).toContain('configuration');
    expect(await outcomeOf(() => place.node.deliver(a1))).toBe('configuration');
    expect(await outcomeOf(() => place.node.deliver(a6))).toBe('configuration');
  });

  it.each(['apply/staging', 'apply/complete', 'state/pending', 'state/torrents'])(
    '%s is made again',
    async (name) => {
      const place = await lose(name);
      const { ran, errors } = await place.reconcile();
      expect(errors).toEqual([]);
      expect(ran).toContain('b two');
      expect(ran).not.toContain('a two');
    },
  );

  it('of the whole apply side leaves a new node, which follows later announcements', async () => {
    const place = await lose('apply');
    expect(await outcomeOf(() => place.node.deliver(a1))).not.toBe('accept');
    await place.reconcile();
    const { errors } = await place.reconcile();
    expect(errors).toEqual([]);
    expect(place.node.epoch).toBe(2);
    expect(place.node.stateOf(a2)).toBe('APPLIED');
  });
});
