import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { startFleet } from '../support/fleet.ts';
import type { FleetNode } from '../support/fleet-node.ts';
import { hasEvent, submit } from '../support/submit.ts';

it.each([
  ['pieces in the announcement', 2 ** 20, 'in'],
  ['a magnet', 12 * 2 ** 20, 'magnet'],
])('reaches another subnet, without multicast: %s', async (_, size, pieces) => {
  const fleet = await startFleet({ nodes: 4, subnets: 2 });
  onTestFinished(() => {
    fleet.stop();
  });
  const [operator] = fleet.nodes as [FleetNode];
  const file = join(fleet.directory, 'content.bin');
  writeFileSync(file, randomBytes(size));
  const update = await submit(operator, file);
  expect(update.pieces).toBe(pieces);
  await fleet.waitFor(
    'every node has it',
    () => fleet.nodes.every((node) => hasEvent(node, update, 'applied')),
    90_000,
  );
});
