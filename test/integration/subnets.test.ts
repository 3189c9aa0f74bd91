import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { startFleet } from '../support/fleet/fleet.ts';
import type { FleetNode } from '../support/fleet/fleet-node.ts';
import { hasEvent, submit } from '../support/fleet/submit.ts';

// The daemon asks peers for metadata in the order of their addresses (3.00), or of their connections (4.1),
// and the first one again and again, which has none if it is another node that downloads.
it('an update reaches nodes whose addresses are lower than that of its submitter, by magnet', async () => {
  const fleet = await startFleet({ nodes: 4, operator: 4 });
  onTestFinished(() => {
    fleet.stop();
  });
  const operator = fleet.nodes[3] as FleetNode;
  const file = join(fleet.directory, 'content.bin');
  writeFileSync(file, randomBytes(12 * 2 ** 20));
  const update = await submit(operator, file);
  expect(update.pieces).toBe('magnet');
  await fleet.waitFor('every node has it', () =>
    fleet.nodes.every((node) => hasEvent(node, update, 'applied')),
  );
});

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
