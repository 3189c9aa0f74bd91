import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseAnnouncement, updateKey } from '../../lib/announcement/update.ts';
import { shellCommand } from '../../lib/command-hint.ts';
import { outcomesDir } from '../../lib/state/layout.ts';
import { readProgress } from '../../lib/state/progress.ts';
import { replaceRecord } from '../../lib/system/record.ts';
import { signAnnouncement } from '../support/fleet/announce.ts';
import type { FleetNode } from '../support/fleet/fleet-node.ts';
import { type Fleet, startFleet } from '../support/fleet/fleet.ts';
import { eventsOf, hasEvent, submit, type Submitted } from '../support/fleet/submit.ts';
import { callTransmission } from '../support/fleet/wire.ts';
import { programArgv } from '../support/run/program.ts';
import { repository } from '../support/run/repository.ts';

let fleet: Fleet;
let nodes: [FleetNode, FleetNode, FleetNode];

beforeAll(async () => {
  fleet = await startFleet({ nodes: 3 });
  nodes = fleet.nodes as typeof nodes;
});

afterAll(() => {
  fleet.stop();
});

interface StatusJson {
  fleet: string;
  verdict: string;
  exitStatus: number;
  nodes: {
    name: string;
    member: string;
    answered: boolean;
    verdict: string;
    why: string;
    software: string;
    channels: Record<string, unknown>[];
  }[];
}

/** The reason of a failing {@link manifest}. */
const missing = /^File\[\/nowhere\/at\/all\]: No such file or directory/;

/** The output of the status on n1, which has to exit with `status`. */
async function fleetStatus(status: number, ...args: string[]): Promise<StatusJson> {
  const result = await nodes[0].script('status', ['--json', ...args]);
  expect({ status: result.status, stderr: result.stderr }).toEqual({ status, stderr: '' });
  const value = JSON.parse(result.stdout) as StatusJson;
  expect(value.exitStatus).toBe(status);
  return value;
}

/** A manifest that writes a file, and fails on the named node. */
function manifest(name: string, failing = 'nobody'): string {
  const path = '${settings::confdir}/' + name;
  const bad = `if $settings::confdir =~ '/${failing}/' { file { '/nowhere/at/all': content => 'x' } }`;
  return write(`${name}.pp`, `file { "${path}": content => "${name}" }\n${bad}\n`);
}

/** Content that needs no Puppet. */
function plainFile(name: string): string {
  return write(`${name}.bin`, name);
}

function write(name: string, content: string): string {
  const file = join(fleet.directory, name);
  writeFileSync(file, content);
  return file;
}

async function submitAndWait(
  status: number,
  file: string,
  ...args: string[]
): Promise<{ sent: Submitted & StatusJson; stderr: string }> {
  const argv = [file, '--wait', '--json', ...args];
  const result = await nodes[0].script('submit', argv, { timeoutMs: 100_000 });
  expect({ status: result.status, out: result.stdout, err: result.stderr }).toMatchObject({
    status,
  });
  const sent = JSON.parse(result.stdout) as Submitted & StatusJson;
  return { sent, stderr: result.stderr };
}

/** The last try, without the minutes before it. */
async function failForGood(node: FleetNode, update: Submitted): Promise<void> {
  const directory = outcomesDir(node.config.applyDir);
  const outcome = readProgress(directory, update);
  replaceRecord(join(directory, updateKey(update)), { ...outcome, tries: 2, nextTryAt: 0 });
  expect(await node.script('apply', [])).toMatchObject({ status: 0 });
}

describe('a fleet without any update', () => {
  it('has converged', async () => {
    // Members that have just started may be too busy to answer in time.
    await fleet.waitFor('every node answers', async () => {
      const { status } = await nodes[0].script('status', ['--json']);
      return status === 0;
    });
    const status = await fleetStatus(0);
    expect(status).toMatchObject({ verdict: 'converged', fleet: 'test-fleet' });
    expect(status.nodes.map(({ name, answered }) => [name, answered])).toEqual([
      ['n1', true],
      ['n2', true],
      ['n3', true],
    ]);
  });
});

describe('submit --wait', () => {
  it('ends with 0 when every target has applied it, and so does status', async () => {
    const file = manifest('good');
    const { sent, stderr } = await submitAndWait(0, file, '--channel', 'good');
    expect(stderr).toBe('');
    expect(sent.verdict).toBe('converged');
    expect(sent.nodes.map((node) => [node.name, node])).toMatchObject(
      ['n1', 'n2', 'n3'].map((name) => [name, { outcome: 'applied', state: 'APPLIED' }]),
    );
    const { version } = JSON.parse(readFileSync(join(repository, 'package.json'), 'utf8')) as {
      version: string;
    };
    const status = await fleetStatus(0);
    for (const node of status.nodes) {
      expect(node).toMatchObject({ verdict: 'converged', software: version });
      expect(node.channels).toMatchObject([
        {
          channel: 'good',
          version: sent.version,
          newest: sent.version,
          state: 'APPLIED',
          run: { exitCode: 2, failed: 0 },
          lastApplied: sent.version,
          equivocation: 'none',
        },
      ]);
    }
    const table = await nodes[1].script('status', ['--all']);
    expect(table.stdout).toMatch(
      /^fleet test-fleet: converged: every node has what is meant for it\n3 of 3 nodes answer, /,
    );
    const signer = fleet.keys.keySet.releaseKeys[0]?.key.id.slice(0, 8) ?? '';
    expect(table.stdout).toMatch(
      new RegExp(`^good@${sent.version} +good\\.pp +\\S+ \\S+ \\S+ +${signer} +3/3$`, 'm'),
    );
    expect(table.stdout).toMatch(
      new RegExp(`^n2 +good +${sent.version} +APPLIED +\\d+ s +exit 2, 1 changed, 0 failed$`, 'm'),
    );
    expect(eventsOf(nodes[2], sent).some(({ handler }) => handler === 'status')).toBe(true);
  });

  it('ends with 1, and names the node, when Puppet fails; so does status', async () => {
    const file = manifest('bad', 'n2');
    const { sent, stderr } = await submitAndWait(1, file, '--channel', 'bad');
    expect(stderr).toMatch(
      /^submit: error: bad@\d+ is not applied on n2 \(FAILED: File\[\/nowhere\/at\/all\]: No such file .*\)\nsubmit: hint: /,
    );
    expect(sent.nodes.map(({ name, ...rest }) => [name, rest])).toMatchObject([
      ['n1', { outcome: 'applied' }],
      ['n2', { outcome: 'failed', reason: expect.stringMatching(missing) as string }],
      ['n3', { outcome: 'applied' }],
    ]);
    // With tries left it may yet converge by itself.
    const { nodes: rows } = await fleetStatus(75, '--channel', 'bad');
    expect(rows.map(({ verdict }) => verdict)).toEqual(['converged', 'pending', 'converged']);
    await failForGood(nodes[1], sent);
    const failed = await fleetStatus(1, '--channel', 'bad');
    expect(failed.nodes).toMatchObject([
      { name: 'n1', verdict: 'converged' },
      {
        name: 'n2',
        verdict: 'failed',
        why: expect.stringMatching(missing) as string,
        channels: [{ state: 'POISONED' }],
      },
      { name: 'n3', verdict: 'converged' },
    ]);
    const healed = await submitAndWait(0, plainFile('mended'), '--channel', 'bad');
    expect(healed.sent.version).toBeGreaterThan(sent.version);
  });

  it('ends with 75 when its time is over, and names the nodes that have not applied it, with the reason', async () => {
    await nodes[1].transmission.end('SIGTERM');
    const args = ['--channel', 'late', '--timeout', '8s'];
    const { stderr, sent } = await submitAndWait(75, plainFile('late'), ...args);
    expect(stderr).toMatch(/^submit: error: late@\d+ is not applied yet on .*n2 \(ACCEPTED: /);
    expect(sent.nodes.find(({ name }) => name === 'n2')).toMatchObject({ outcome: 'waiting' });
    await nodes[1].transmission.start();
    const again = await nodes[0].script('submit', ['--resend', '--wait', '--json']);
    expect(again).toMatchObject({ status: 0, stderr: '' });
  });
});

describe('a download', () => {
  it('shows how far it is, and how fast', async () => {
    const limit = { 'speed-limit-down': 60, 'speed-limit-down-enabled': true };
    await callTransmission(nodes[1], 'session-set', limit);
    const file = write('slow.bin', 'x'.repeat(2_000_000));
    const sent = await submit(nodes[0], file, '--channel', 'slow');
    let shown = '';
    await fleet.waitFor('n2 is at some percent', async () => {
      ({ stdout: shown } = await nodes[0].script('status', ['--channel', 'slow']));
      return /^pending +slow: QUEUED: [1-9]\d? %, \d+ kB\/s\n +on n2$/m.test(shown);
    });
    expect(shown).toMatch(/^fleet test-fleet: pending: slow on n2: QUEUED: /);
    await callTransmission(nodes[1], 'session-set', { 'speed-limit-down-enabled': false });
    await fleet.waitFor('n2 has it', () => hasEvent(nodes[1], sent, 'applied'));
  });
});

describe('a node that is down', () => {
  it('is listed as down by both, and is no failure', async () => {
    await nodes[2].serf.end('SIGKILL');
    await fleet.waitFor('Serf has lost n3', async () => {
      const { stdout } = await nodes[0].serfCommand(['members', '-status', 'failed']);
      return stdout.includes('n3');
    });
    const status = await fleetStatus(75);
    expect(status.nodes).toMatchObject([
      { name: 'n1', verdict: 'converged' },
      { name: 'n2', verdict: 'converged' },
      { name: 'n3', verdict: 'pending', member: 'down', answered: false, why: 'down' },
    ]);
    const { stderr } = await submitAndWait(75, plainFile('without-n3'), '--channel', 'down');
    expect(stderr).toMatch(/is not applied yet on n3 \(down\)/);
    // By its silence nobody is known to be no target.
    const targeted = ['--channel', 'down', '--target', 'node=n1|n2'];
    const silent = await submitAndWait(75, plainFile('for-two'), ...targeted);
    expect(silent.stderr).toMatch(/^submit: warning: whether it is for n3 \(down\) is not known$/m);
    expect(silent.stderr).toMatch(/is not applied yet on n3 \(down\)/);
    await nodes[2].serf.start();
    await fleet.waitFor('n3 is back', async () => {
      const alive = await nodes[0].aliveMembers();
      return alive.length === 3;
    });
    const heard = await nodes[0].script('submit', ['--resend', '--wait']);
    expect(heard).toMatchObject({ status: 0, stderr: '' });
    expect(heard.stdout).toMatch(/^n2 +applied\n1 node is no target$/m);
  });
});

describe('an equivocation', () => {
  it('is shown until a higher version heals it', async () => {
    const first = await submit(nodes[0], plainFile('first'), '--channel', 'twice');
    await fleet.waitFor('all have it', () =>
      fleet.nodes.every((n) => hasEvent(n, first, 'accept')),
    );
    const { announcement } = parseAnnouncement(first.payload).signed;
    const other = signAnnouncement({ ...announcement, name: 'other.pp' }, fleet.keys);
    await nodes[1].serfCommand(['event', '-coalesce=false', '--', 'update', other]);
    await fleet.waitFor('all refuse', () => fleet.nodes.every((n) => hasEvent(n, first, 'refuse')));
    const status = await fleetStatus(1, '--channel', 'twice');
    expect(status.nodes.flatMap(({ channels }) => channels)).toMatchObject(
      fleet.nodes.map(() => ({ channel: 'twice', equivocation: 'seen', verdict: 'failed' })),
    );
    await submitAndWait(0, plainFile('healing'), '--channel', 'twice');
    const healed = await fleetStatus(0, '--channel', 'twice');
    expect(healed.nodes.flatMap(({ channels }) => channels)).toMatchObject(
      fleet.nodes.map(() => ({ equivocation: 'none' })),
    );
  });
});

describe('status --watch', () => {
  it('prints one block after another, and ends cleanly on Ctrl-C', async () => {
    const argv = programArgv('p2p-update.cjs status');
    const watch = ['--watch', '1', '--json', '--channel', 'good'];
    const place = ['netns', 'exec', nodes[0].namespace];
    const child = spawn('ip', [...place, ...argv, ...watch], {
      env: nodes[0].env,
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let out = '';
    child.stdout.on('data', (chunk: Buffer) => (out += chunk.toString()));
    await fleet.waitFor('two blocks', () => out.split('\n').length > 2);
    const end = once(child, 'exit');
    child.kill('SIGINT');
    expect(await end).toEqual([0, null]);
    for (const line of out.trimEnd().split('\n'))
      expect(JSON.parse(line)).toMatchObject({ verdict: 'converged' });
  });
});

describe('on a terminal', () => {
  /** Runs a script of ours with a terminal of 6 rows for all its streams; returns what it shows. */
  const show = async (seconds: number, script: string, ...args: string[]): Promise<string> => {
    const words = [...programArgv(`p2p-update.cjs ${script}`), ...args];
    const command = `stty rows 6 cols 200; exec timeout ${seconds} ${shellCommand(...words)}`;
    const { stdout } = await nodes[0].run(['script', '-qec', command, '/dev/null']);
    return stdout.replaceAll('\r\n', '\n');
  };

  it('submit --wait shows a bar of the nodes', async () => {
    const shown = await show(50, 'submit', plainFile('bar'), '--wait', '--channel', 'bar');
    expect(shown).toMatch(/\rapplied \[#{30}\] 3\/3 nodes\n/);
    expect(shown).toMatch(/^n3 +applied/m);
  });

  it('status --watch shows the verdict on top, within the height, in one place', async () => {
    // The interrupt alone ends it.
    const shown = await show(8, 'status', '--watch', '1');
    const [before, ...screens] = shown.split('\u001b[H\u001b[2J');
    expect(before).toBe('');
    expect(screens.length).toBeGreaterThan(1);
    for (const screen of screens) {
      expect(screen).toMatch(/^fleet test-fleet: /);
      expect(screen.replace(/\n$/, '').split('\n').length).toBeLessThanOrEqual(5);
    }
  });
});

describe('without Serf', () => {
  it('status reports that, and ends with 69', async () => {
    await nodes[2].serf.end('SIGTERM');
    const { status, stdout, stderr } = await nodes[2].script('status', []);
    expect({ status, stdout }).toEqual({ status: 69, stdout: '' });
    expect(stderr).toMatch(/^status: error: the Serf agent .+\nstatus: hint: /);
  });
});
