import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { startFleet } from '../support/fleet/fleet.ts';
import type { FleetNode } from '../support/fleet/fleet-node.ts';
import { hasEvent, submit } from '../support/fleet/submit.ts';

it('an update reaches another subnet, without multicast, by magnet', async () => {
  const fleet = await startFleet({ nodes: 4, subnets: 2 });
  onTestFinished(() => {
    fleet.stop();
  });
  const [operator] = fleet.nodes as [FleetNode];
  const file = join(fleet.directory, 'content.bin');
  writeFileSync(file, randomBytes(12 * 2 ** 20));
  const update = await submit(operator, file);
  expect(update.pieces).toBe('magnet');
  await fleet.waitFor('every node has it', () =>
    fleet.nodes.every((node) => hasEvent(node, update, 'applied')),
  );
});
