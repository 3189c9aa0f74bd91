import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import { updateKey } from '../../../lib/announcement/update.ts';
import type { FleetNode } from './fleet-node.ts';
import type { Fleet } from './fleet.ts';
import { hasEvent, submit, type Submitted } from './submit.ts';

/** A roll-back by hand that is about to begin. */
export interface RollBack {
  /** The content to go back to, `a.bin`. */
  file: string;
  /** Its first announcement, to the canary. */
  first: Submitted;
  /** Goes back; resolves to the milliseconds from the end of the submit until all targets have applied it. */
  goBack: () => Promise<number>;
}

/**
 * Has a sender that is no target submit A to a canary, renew it for all targets, and submit B to them.
 *
 * @param targets of which the first is the canary; the sender is the fleet's first node
 * @param bytes of each content, which is random
 */
export async function prepareRollBack(
  fleet: Fleet,
  targets: readonly FleetNode[],
  bytes: number,
  timeoutMs: number,
): Promise<RollBack> {
  const [sender] = fleet.nodes as [FleetNode];
  const [canary] = targets as [FleetNode];
  const all = `node=${targets.map(({ name }) => name).join('|')}`;
  const make = (name: string): string => {
    const file = join(fleet.directory, name);
    writeFileSync(file, randomBytes(bytes));
    return file;
  };
  const to = (target: string): string[] => ['--channel', 'back', '--target', target];
  const applied = (update: Submitted, nodes: readonly FleetNode[]): Promise<unknown> =>
    fleet.waitFor(
      `${updateKey(update)} is applied`,
      () => nodes.every((node) => hasEvent(node, update, 'applied')),
      timeoutMs,
    );
  const [file, other] = [make('a.bin'), make('b.bin')];
  const first = await submit(sender, file, ...to(`node=${canary.name}`));
  await applied(first, [canary]);
  const renewal = await sender.script('renew', ['back', '--target', all, '--json']);
  expect(renewal).toMatchObject({ status: 0, stderr: '' });
  await applied(JSON.parse(renewal.stdout) as Submitted, targets);
  await applied(await submit(sender, other, ...to(all)), targets);
  const goBack = async (): Promise<number> => {
    const again = await submit(sender, file, ...to(all));
    const begin = Date.now();
    await applied(again, targets);
    return Date.now() - begin;
  };
  return { file, first, goBack };
}
