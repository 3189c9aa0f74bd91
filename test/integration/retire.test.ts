import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { FleetNode } from '../support/fleet/fleet-node.ts';
import { type Fleet, startFleet } from '../support/fleet/fleet.ts';
import type { CommandResult } from '../support/run/command.ts';

// Debian's unit stops Serf's agent by SIGINT, which is a leave unless serf.json says otherwise.

interface Status {
  verdict: string;
  nodes: { name: string; member: string; why: string }[];
}

let fleet: Fleet;
let first: FleetNode;
let second: FleetNode;
let third: FleetNode;

beforeAll(async () => {
  fleet = await startFleet({ nodes: 3, transmission: false });
  [first, second, third] = fleet.nodes as [FleetNode, FleetNode, FleetNode];
});

afterAll(() => {
  fleet.stop();
});

const retire = (...names: string[]): Promise<CommandResult> => second.script('retire', names);

async function status(): Promise<{ exit: number | null; absent: Status['nodes'] }> {
  const result = await first.script('status', ['--json']);
  const { nodes } = JSON.parse(result.stdout) as Status;
  return { exit: result.status, absent: nodes.filter(({ member }) => member !== 'alive') };
}

const untilAbsent = (member: string): Promise<boolean> =>
  fleet.waitFor(`n3 is ${member}`, async () => {
    const { absent } = await status();
    return absent.some((node) => node.name === 'n3' && node.member === member);
  });

describe('a node that is switched off', () => {
  it('does not leave the fleet: status names it, and does not exit with 0', async () => {
    await third.serf.end('SIGINT');
    await untilAbsent('down');
    expect(await status()).toMatchObject({
      exit: 75,
      absent: [{ name: 'n3', member: 'down', why: 'down' }],
    });
  });

  it('is named by submit --wait, with the way to retire it', async () => {
    // No daemon of Transmission is up: a withdrawal needs none.
    const sent = await first.script('submit', [
      '--withdraw',
      'default',
      '--wait',
      '--timeout',
      '20s',
    ]);
    expect(sent.status).toBe(75);
    expect(sent.stderr).toMatch(/n3 \(down\)/);
    expect(sent.stderr).toMatch(/ retire n3\n/);
  });

  it('is retired by any node, and then missed by none', async () => {
    expect(await retire('n3')).toEqual({ status: 0, stdout: 'retired n3\n', stderr: '' });
    await fleet.waitFor(
      'n1 has forgotten it too',
      async () => (await status()).absent.length === 0,
    );
  });

  it('is a member again when it joins again', async () => {
    await third.serf.start();
    await fleet.waitFor('it is back', async () => (await first.aliveMembers()).length === 3);
  });
});

describe('a node that takes its leave', () => {
  it('is missed as well, and can be retired', async () => {
    const left = await third.serfCommand(['leave']);
    expect(left.status).toBe(0);
    await untilAbsent('left');
    expect(await status()).toMatchObject({
      exit: 75,
      absent: [{ name: 'n3', why: 'has left, and was not retired' }],
    });
    expect(await retire('n3')).toMatchObject({ status: 0 });
    await fleet.waitFor(
      'n1 has forgotten it too',
      async () => (await status()).absent.length === 0,
    );
  });
});

describe('retire', () => {
  const names = async (): Promise<string[]> =>
    (await second.aliveMembers()).map(({ name }) => name).sort();

  it.each([
    ['a node that is alive', ['n1'], 76, /n1 is alive/],
    ['an unknown node', ['n9'], 64, /there is no member "n9"/],
    ['nothing', [], 64, /name the nodes/],
    ['an option in place of a name', ['--all'], 64, /--all/],
  ])('refuses %s, and retires nobody', async (_, arguments_, exit, message) => {
    const before = await names();
    const result = await retire(...arguments_);
    expect(result).toMatchObject({ status: exit, stdout: '' });
    expect(result.stderr).toMatch(message);
    expect(result.stderr).toMatch(/^retire: error: .+\nretire: hint: .+\n$/);
    expect(await names()).toEqual(before);
  });

  it('says that Serf is down', async () => {
    await second.serf.end('SIGKILL');
    expect(await retire('n3')).toMatchObject({ status: 69, stdout: '' });
  });
});
