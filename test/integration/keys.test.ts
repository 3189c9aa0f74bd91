import { mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { currentKeySet } from '../../lib/state/key-chain.ts';
import { startFleet, type Fleet } from '../support/fleet/fleet.ts';
import type { FleetNode } from '../support/fleet/fleet-node.ts';
import { makeKeyFiles, type KeyFiles } from '../support/fleet/operator.ts';
import { eventsOf, hasEvent, outcomeOf, submit, type Submitted } from '../support/fleet/submit.ts';

// Two operators on two of three nodes, with the keys and the commands that they have in life.

let fleet: Fleet;
let operator: FleetNode;
let colleague: FleetNode;
let at: (name: string) => string;
let fresh: KeyFiles;

beforeAll(async () => {
  fleet = await startFleet({ nodes: 3 });
  [operator, colleague] = fleet.nodes as [FleetNode, FleetNode];
  at = (name) => join(fleet.directory, name);
  const args = ['--fleet', 'test-fleet', '--out', at('keys'), '--roots', '2'];
  const made = await operator.script('keygen', [...args, '--root-threshold', '2']);
  expect(made).toMatchObject({ status: 0, stderr: '' });
  // Nothing was sent yet: the fleet starts from these keys.
  const keySet = readFileSync(at('keys/keyset.txt'));
  for (const node of fleet.nodes) writeFileSync(node.config.keySetFile, keySet);
  useKey(operator, at('keys/release.key'));
  mkdirSync(at('new'));
  fresh = makeKeyFiles(at('new'), 'fresh');
});

afterAll(() => {
  fleet.stop();
});

/** The keys that a node's operator signs with from now on. */
function useKey(node: FleetNode, file: string): void {
  writeFileSync(node.configFile, JSON.stringify({ ...node.config, signingKeyFiles: [file] }));
}

async function keys(node: FleetNode, ...args: string[]): Promise<string> {
  const { status, stdout, stderr } = await node.script('keys', args);
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  return stdout;
}

function file(name: string, content: string): string {
  writeFileSync(at(name), content);
  return at(name);
}

const everywhere = (
  update: { channel: string; version: number },
  decision: string,
): Promise<boolean> =>
  fleet.waitFor(`every node: ${decision} ${update.channel}@${update.version}`, () =>
    fleet.nodes.every((node) => hasEvent(node, update, decision)),
  );

const inForce = async (epoch: number): Promise<void> => {
  await everywhere({ channel: 'keyset', version: epoch }, 'applied');
  for (const node of fleet.nodes) expect(currentKeySet(node.config).epoch).toBe(epoch);
  expect(await keys(colleague, 'list')).toMatch(new RegExp(`^epoch +${epoch}$`, 'm'));
};

describe('the keys of a running fleet', () => {
  let old: Submitted;
  let night: Submitted;

  it('change when one operator prepares, the other countersigns, and either sends', async () => {
    old = await submit(operator, file('one.bin', 'one'), '--channel', 'one');
    await everywhere(old, 'applied');
    const proposal = at('keyset-2.json');
    const root = ['--root-key', at('keys/root-1.key')];
    const added = await keys(operator, 'add', fresh.pub, ...root, '--out', proposal);
    expect(added).toContain(`adds release key ${fresh.id}, all channels`);
    const signed = await keys(
      colleague,
      'countersign',
      proposal,
      '--root-key',
      at('keys/root-2.key'),
    );
    expect(signed).toContain(`adds release key ${fresh.id}, all channels`);
    await keys(colleague, 'send', proposal);
    await inForce(2);
  });

  it('make the fleet trust the new key beside the old one', async () => {
    useKey(colleague, fresh.key);
    const theirs = await submit(colleague, file('two.bin', 'two'), '--channel', 'two');
    const ours = await submit(operator, file('three.bin', 'three'), '--channel', 'three');
    await everywhere(theirs, 'applied');
    await everywhere(ours, 'applied');
  });

  it('lose the old key by another change, with the updates that it signed', async () => {
    const gone = currentKeySet(operator.config).releaseKeys.find(({ key }) => key.id !== fresh.id);
    const root = ['--root-key', at('keys/root-1.key'), '--root-key', at('keys/root-2.key')];
    const args = ['--channel', 'night', '--not-before', '+2h'];
    night = await submit(operator, file('night.bin', 'night'), ...args);
    await everywhere(night, 'complete');
    const proposal = at('keyset-3.json');
    const id = gone?.key.id ?? '';
    const removed = await keys(operator, 'remove', id, ...root, '--out', proposal);
    expect(removed).toContain(`submit --renew one@${old.version}`);
    await keys(operator, 'send', proposal);
    await inForce(3);
    const path = file('late.bin', 'late');
    const late = await operator.script('submit', [path, '--channel', 'late']);
    expect(late.status).toBe(78);
    expect(late.stderr).toMatch(/asks for 1 release keys on channel late/);
    await everywhere(night, 'withdrawn');
    const status = await operator.script('status', ['--channel', 'night']);
    expect(status.status).toBe(1);
    expect(status.stdout).toMatch(/^fleet \S+: failed: night on n1 and 2 more: .* signed again$/m);
    expect(status.stdout).toMatch(/^ +on n1, n2, n3; here: .+ submit --renew --all$/m);
  });

  it('are used by --renew --all to sign again, and no update runs or is downloaded again', async () => {
    useKey(operator, fresh.key);
    const delivered = (node: FleetNode): string => join(node.config.deliveryDir, old.name);
    const before = fleet.nodes.map((node) => statSync(delivered(node)).mtimeMs);
    const result = await operator.script('submit', ['--renew', '--all', '--json']);
    expect(result).toMatchObject({ status: 0, stderr: '' });
    const all = result.stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as Submitted);
    expect(all.map(({ channel }) => channel)).toEqual(['night', 'one', 'three']);
    const [tonight, renewed] = all as [Submitted, Submitted];
    expect([tonight.infoHash, renewed.infoHash]).toEqual([night.infoHash, old.infoHash]);
    await everywhere(renewed, 'applied');
    for (const node of fleet.nodes)
      expect(outcomeOf(node, renewed)?.reason).toBe('this content is applied already');
    expect(fleet.nodes.map((node) => statSync(delivered(node)).mtimeMs)).toEqual(before);
    // It keeps its time.
    await everywhere(tonight, 'complete');
    const status = await operator.script('status', ['--channel', 'night']);
    expect(status.status).toBe(0);
    expect(status.stdout).toMatch(/^fleet \S+: scheduled: night on n1 and 2 more: WAITING until /m);
  });

  it('are repeated by --resend of a key set, for which every node has nothing to do', async () => {
    const update = { channel: 'keyset', version: 3 };
    const heard = (node: FleetNode): number =>
      eventsOf(node, update).filter(({ handler }) => handler === 'update').length;
    const before = fleet.nodes.map(heard);
    const result = await operator.script('submit', ['--resend', 'keyset@3']);
    expect(result).toMatchObject({ status: 0, stderr: '' });
    await fleet.waitFor('every node has heard it again', () =>
      fleet.nodes.every((node, index) => heard(node) > (before[index] ?? 0)),
    );
    await inForce(3);
  });
});

describe('submit', () => {
  it('--target counts the members that the real Serf knows', async () => {
    const args = [file('some.bin', 'some'), '--dry-run', '--json', '--target', 'node=n2|n9'];
    const { stdout, stderr } = await operator.script('submit', args);
    expect(stderr).toBe('');
    expect(JSON.parse(stdout)).toMatchObject({ targets: { matching: 1, members: 3 } });
  });
});
