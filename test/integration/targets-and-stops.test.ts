import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseAnnouncement } from '../../lib/announcement/update.ts';
import { startFleet, type Fleet } from '../support/fleet/fleet.ts';
import type { FleetNode } from '../support/fleet/fleet-node.ts';
import { eventsOf, hasEvent, outcomeOf, submit, type Submitted } from '../support/fleet/submit.ts';

let fleet: Fleet;
let operator: FleetNode;
let others: FleetNode[];

beforeAll(async () => {
  // Root's tags alone: Serf knows none of them.
  fleet = await startFleet({ nodes: 2, config: { tags: { role: 'web' } } });
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
/** A plain file, where it does not matter what is applied: a run of Puppet takes seconds of a core. */
function plain(channel: string): string {
  const file = join(fleet.directory, `${channel}.txt`);
  writeFileSync(file, channel);
  return file;
}
const hasFile = (node: FleetNode, channel: string): boolean =>
  existsSync(join(node.config.deliveryDir, `${channel}.txt`));
const hasRun = (node: FleetNode, channel: string): boolean =>
  existsSync(join(node.config.puppet.confDir, `on-${channel}`));
const on = (nodes: readonly FleetNode[], update: Submitted, decision: string): Promise<boolean> =>
  fleet.waitFor(`${nodes.map(({ name }) => name).join()}: ${decision}`, () =>
    nodes.every((node) => hasEvent(node, update, decision)),
  );

/** The status of one channel on the operator's node. */
async function statusOf(channel: string) {
  const result = await operator.script('status', ['--json', '--channel', channel]);
  const value = JSON.parse(result.stdout) as {
    verdict: string;
    why: string;
    nodes: { channels: Record<string, unknown>[] }[];
  };
  return { exit: result.status, ...value, rows: value.nodes.flatMap(({ channels }) => channels) };
}

describe('a target', () => {
  let narrow: Submitted;

  it('is counted by the nodes themselves, and refused where none of them matches', async () => {
    await fleet.waitFor('both members are up', async () => {
      const alive = await operator.aliveMembers();
      return alive.length === 2;
    });
    const args = [plain('tags'), '--channel', 'tags', '--json'];
    const dry = await operator.script('submit', [...args, '--dry-run', '--target', 'role=web']);
    expect(dry).toMatchObject({ status: 0, stderr: '' });
    expect(JSON.parse(dry.stdout)).toMatchObject({
      targets: { matching: 2, members: 2, silent: [] },
    });
    const none = await operator.script('submit', [...args, '--target', 'role=db']);
    expect(none).toMatchObject({ status: 76, stdout: '' });
    expect(none.stderr).toMatch(
      /^submit: error: role=db matches none of the 2 nodes that answer\nsubmit: hint: .*--force/,
    );
    expect(operator.events().some(({ channel }) => channel === 'tags')).toBe(false);
    const forced = [...args, '--target', 'role=db', '--force', '--wait'];
    const sent = await operator.script('submit', forced);
    expect(sent.status).toBe(75);
    expect(sent.stderr).toMatch(/tags@\d+ is for no node: of 2 none is its target/);
    const { verdict } = JSON.parse(sent.stdout) as { verdict: string };
    expect(verdict).toBe('pending');
  });

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
        reason: 'this content is applied already; submit --rerun runs it again',
      });
    expect(outcomeOf(operator, wide)?.run?.exitCode).toBe(2);
  });
});

describe('a withdrawal', () => {
  it('stops an update that waits for its time on every node, although Transmission is down', async () => {
    const args = ['--channel', 'stop', '--not-before', '+2h'];
    const waiting = await submit(operator, plain('stop'), ...args);
    await on(fleet.nodes, waiting, 'complete');
    const scheduled = await statusOf('stop');
    expect(scheduled).toMatchObject({ exit: 0, verdict: 'scheduled' });
    const until = parseAnnouncement(waiting.payload).update.notBefore * 1000;
    expect(scheduled.rows).toMatchObject(
      fleet.nodes.map(() => ({ state: 'WAITING', until: new Date(until).toISOString() })),
    );
    const again = await operator.script('submit', ['--resend', '--wait']);
    expect(again).toMatchObject({ status: 0, stderr: '' });
    expect(again.stdout).toMatch(
      /^n2 +WAITING until \S+\nscheduled: on 2 nodes, to be applied at /m,
    );
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
    const stopped = await statusOf('stop');
    expect(stopped).toMatchObject({ exit: 0, verdict: 'converged' });
    expect(stopped.rows).toMatchObject(
      fleet.nodes.map(() => ({ state: 'WITHDRAWN', reason: 'nothing was applied' })),
    );
    await operator.transmission.start();
    expect(fleet.nodes.some((node) => hasFile(node, 'stop'))).toBe(false);
    const anew = await submit(operator, plain('stop'), '--channel', 'stop');
    await on(fleet.nodes, anew, 'applied');
    expect(fleet.nodes.every((node) => hasFile(node, 'stop'))).toBe(true);
    const late = await operator.script('submit', ['--withdraw', 'stop', '--wait']);
    expect(late).toMatchObject({ status: 0, stderr: '' });
    expect(late.stdout).toMatch(
      new RegExp(`^n2 +WITHDRAWN: runs ${anew.version}, applied before$`, 'm'),
    );
    expect((await statusOf('stop')).rows).toMatchObject(
      fleet.nodes.map(() => ({
        state: 'WITHDRAWN',
        lastApplied: anew.version,
        reason: `runs ${anew.version}, applied before`,
      })),
    );
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
