import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { it } from 'vitest';
import { type FleetOptions, startFleet } from '../support/fleet/fleet.ts';
import type { FleetNode } from '../support/fleet/fleet-node.ts';
import { hasEvent, submit } from '../support/fleet/submit.ts';

// The daemon asks peers for metadata in the order of their addresses (3.00), or of their connections (4.1),
// and the first one again and again, which has none if it is another node that downloads.
// Three fleets at once, each in a network of its own.
it.concurrent.for<[string, Omit<FleetOptions, 'nodes'>]>([
  ['nodes whose addresses are lower than that of its submitter', { operator: 4 }],
  ['another subnet, without multicast', { layout: 2 }],
  ['nodes that no IPv4 reaches', { layout: 'IPv6' }],
])('an update reaches %s, by magnet', async ([, options], { expect, onTestFinished }) => {
  const fleet = await startFleet({ nodes: 4, ...options });
  onTestFinished(() => {
    fleet.stop();
  });
  const operator = fleet.nodes[(options.operator ?? 1) - 1] as FleetNode;
  const file = join(fleet.directory, 'content.bin');
  writeFileSync(file, randomBytes(12 * 2 ** 20));
  const update = await submit(operator, file);
  expect(update.pieces).toBe('magnet');
  await fleet.waitFor('every node has it', () =>
    fleet.nodes.every((node) => hasEvent(node, update, 'applied')),
  );
});
