import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startFleet, type Fleet } from '../support/fleet/fleet.ts';
import type { FleetNode } from '../support/fleet/fleet-node.ts';
import { eventsOf, hasEvent, outcomeOf, submit, type Submitted } from '../support/fleet/submit.ts';

let fleet: Fleet;
let operator: FleetNode;
let others: FleetNode[];

beforeAll(async () => {
  fleet = await startFleet({ nodes: 2 });
  const [first, ...rest] = fleet.nodes;
  if (first === undefined) throw new Error('no node');
  operator = first;
  others = rest;
});

afterAll(() => {
  fleet.stop();
});

/** A manifest that writes a file named by its channel. */
function manifest(channel: string): string {
  const file = join(fleet.directory, `${channel}.pp`);
  const target = '${settings::confdir}/on-' + channel;
  writeFileSync(file, `file { "${target}": content => "text" }\n`);
  return file;
}
const hasRun = (node: FleetNode, channel: string): boolean =>
  existsSync(join(node.config.puppet.confDir, `on-${channel}`));
const on = (nodes: readonly FleetNode[], update: Submitted, decision: string): Promise<boolean> =>
  fleet.waitFor(`${nodes.map(({ name }) => name).join()}: ${decision}`, () =>
    nodes.every((node) => hasEvent(node, update, decision)),
  );

describe('a target', () => {
  let narrow: Submitted;

  it('lets the nodes that it names apply an update, and the others only keep it', async () => {
    const file = manifest('aim');
    narrow = await submit(operator, file, '--channel', 'aim', '--target', 'node=n2|n9');
    await on(others, narrow, 'applied');
    await on([operator], narrow, 'accept');
    expect(fleet.nodes.map((node) => hasRun(node, 'aim'))).toEqual([false, true]);
    expect(outcomeOf(operator, narrow)).toBeUndefined();
    expect(eventsOf(operator, narrow).at(-1)?.reason).toMatch(/not a target/);
    expect(readdirSync(join(operator.config.stateDir, 'announcements')).join()).toContain('aim@');
  });

  it('runs an update where it has not run yet when it is widened, and nowhere twice', async () => {
    const wide = await submit(operator, manifest('aim'), '--channel', 'aim');
    await on(fleet.nodes, wide, 'applied');
    expect(fleet.nodes.map((node) => hasRun(node, 'aim'))).toEqual([true, true]);
    for (const node of others)
      expect(outcomeOf(node, wide)).toMatchObject({
        run: null,
        reason: 'this content is applied already',
      });
    expect(outcomeOf(operator, wide)?.run?.exitCode).toBe(2);
  });
});

describe('a withdrawal', () => {
  it('stops an update that waits for its time on every node, although Transmission is down', async () => {
    const args = ['--channel', 'stop', '--not-before', '+2h'];
    const waiting = await submit(operator, manifest('stop'), ...args);
    await on(fleet.nodes, waiting, 'complete');
    await operator.transmission.end('SIGTERM');
    const { status, stdout, stderr } = await operator.script('submit', [
      '--withdraw',
      'stop',
      '--json',
    ]);
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    const stop = JSON.parse(stdout.trimEnd().split('\n').at(-1) ?? '') as Submitted;
    await on(fleet.nodes, stop, 'applied');
    await on(fleet.nodes, waiting, 'withdrawn');
    await operator.transmission.start();
    expect(fleet.nodes.some((node) => hasRun(node, 'stop'))).toBe(false);
    const again = await submit(operator, manifest('stop'), '--channel', 'stop');
    await on(fleet.nodes, again, 'applied');
    expect(fleet.nodes.every((node) => hasRun(node, 'stop'))).toBe(true);
  });
});

describe('a noop', () => {
  it('reports the changes that Puppet would make on each node, makes none, and moves no mark', async () => {
    const file = manifest('dry');
    const dry = (await submit(operator, file, '--channel', 'dry', '--noop')) as Submitted & {
      nodes: { name: string; state: string; reason: string; wouldChange?: string[] }[];
    };
    expect(dry.nodes.map(({ name }) => name).sort()).toEqual(['n1', 'n2']);
    for (const node of dry.nodes) {
      expect(node).toMatchObject({
        state: 'APPLIED',
        reason: 'noop: resources that would change: 1',
      });
      expect(node.wouldChange?.[0]).toMatch(/^Main\/File\[.*on-dry\]\/ensure$/);
    }
    expect(fleet.nodes.some((node) => hasRun(node, 'dry'))).toBe(false);
    const real = await submit(operator, file, '--channel', 'dry');
    await on(fleet.nodes, real, 'applied');
    expect(fleet.nodes.every((node) => hasRun(node, 'dry'))).toBe(true);
  });
});
