import { chmodSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Check, CheckVerdict } from '../../lib/health/check.ts';
import type { FleetNode } from '../support/fleet/fleet-node.ts';
import { type Fleet, startFleet } from '../support/fleet/fleet.ts';
import { submit } from '../support/fleet/submit.ts';
import { mustRun } from '../support/run/command.ts';

let fleet: Fleet;
let node: FleetNode;
let other: FleetNode;

beforeAll(async () => {
  fleet = await startFleet({ nodes: 2 });
  [node, other] = fleet.nodes as [FleetNode, FleetNode];
  const file = join(fleet.directory, 'content.bin');
  writeFileSync(file, 'content');
  await submit(node, file, '--wait');
});

afterAll(() => {
  fleet.stop();
});

interface Examination {
  status: number | null;
  checks: Check[];
}

async function examine(on = node, env: Record<string, string> = {}): Promise<Examination> {
  const { status, stdout, stderr } = await on.script('doctor', ['--json'], { env });
  expect(stderr).toBe('');
  const { checks, exitStatus } = JSON.parse(stdout) as { checks: Check[]; exitStatus: number };
  expect(exitStatus).toBe(status);
  return { status, checks };
}

const verdictsOf = ({ checks }: Examination, ...verdicts: CheckVerdict[]): string[] =>
  checks.filter(({ verdict }) => verdicts.includes(verdict)).map(({ id }) => id);

/** Changes a JSON file; returns the action that brings the old text back. */
function change(file: string, edit: (value: Record<string, unknown>) => void): () => void {
  const before = readFileSync(file, 'utf8');
  const value = JSON.parse(before) as Record<string, unknown>;
  edit(value);
  writeFileSync(file, JSON.stringify(value));
  return () => {
    writeFileSync(file, before);
  };
}

function replace(file: string, text: string): () => void {
  const before = readFileSync(file, 'utf8');
  writeFileSync(file, text);
  return () => {
    writeFileSync(file, before);
  };
}

const configFile = (): string => node.configFile;
const serfFile = (): string => join(node.directory, 'serf', '10-serf.json');

/** Restarts Transmission with other settings; returns the action that restores them. */
async function withSettings(settings: Record<string, unknown>): Promise<() => Promise<void>> {
  const file = join(node.directory, 'transmission', 'settings.json');
  await node.transmission.end('SIGTERM');
  const restore = change(file, (value) => Object.assign(value, settings));
  await node.transmission.start();
  return async () => {
    await node.transmission.end('SIGTERM');
    restore();
    await node.transmission.start();
  };
}

function program(name: string, text: string, mode: number): string {
  const file = join(fleet.directory, name);
  writeFileSync(file, text);
  chmodSync(file, mode);
  return file;
}

const hook = (file: string) => withSettings({ 'script-torrent-done-filename': file });

describe('a sound node', () => {
  it('passes every check, and its port and that of the other node answer a real handshake', async () => {
    const examination = await examine();
    expect(verdictsOf(examination, 'warn', 'fail', 'skipped')).toEqual([]);
    expect(examination.status).toBe(0);
    const what = (id: string) => examination.checks.find((check) => check.id === id)?.what;
    expect(what('transmission-port')).toMatch(/answers a handshake/);
    expect(what('peers')).toMatch(/^1 of 1 members called, .* 1 answered a handshake$/);
    expect(what('fleet')).toMatch(/ on 2 of 2$/);
  });

  it('has one line a check, and one for all of them', async () => {
    const { status, stdout, stderr } = await node.script('doctor', []);
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    const lines = stdout.trimEnd().split('\n');
    expect(lines.at(-1)).toMatch(/^\d+ ok, 0 warn, 0 FAIL, 0 skipped$/);
    for (const line of lines.slice(0, -1)) expect(line).toMatch(/^ok {4}\S/);
  });

  it('tells no secret', async () => {
    const { stdout } = await node.script('doctor', ['--json']);
    const rpcKey = readFileSync(join(node.directory, 'etc', 'serf-rpc.key'), 'utf8').trim();
    const login = JSON.parse(
      readFileSync(join(node.directory, 'etc', 'transmission.json'), 'utf8'),
    ) as { password: string };
    const serfKeys = readFileSync(join(node.directory, 'serf', '20-secrets.json'), 'utf8');
    const { encrypt_key: encryptKey } = JSON.parse(serfKeys) as { encrypt_key: string };
    for (const secret of [rpcKey, login.password, encryptKey]) expect(stdout).not.toContain(secret);
  });
});

type Repair = () => Promise<void> | void;

describe('a broken node', () => {
  beforeAll(() => {
    // Puppet takes most of the time of an examination; that of a sound node has run the real one.
    const command = program('quick-puppet', '#!/bin/sh\necho 7.23.0\n', 0o755);
    for (const { configFile: file } of [node, other])
      change(file, (value) => Object.assign(value['puppet'] as object, { command }));
  });

  it.each<[string, () => Promise<Repair> | Repair, Record<string, RegExp>, RegExp?]>([
    [
      'Serf is stopped',
      async () => {
        await node.serf.end('SIGTERM');
        return () => node.serf.start();
      },
      { 'serf-agent': /^the Serf agent at 127\.0\.0\.1:7373: / },
      /^service serf restart$/,
    ],
    [
      'the password of Transmission differs',
      () =>
        change(join(node.directory, 'etc', 'transmission.json'), (value) => {
          value['password'] = 'another';
        }),
      {
        'transmission-daemon':
          /^the password differs \(401\): .*settings\.json, .*transmission\.json/,
      },
      /^editor .*settings\.json'?$/,
    ],
    [
      "Serf's RPC key differs",
      () => replace(join(node.directory, 'etc', 'serf-rpc.key'), 'another\n'),
      { 'serf-agent': /refuses our RPC key/, 'serf-rpc-key': /differ$/ },
      /^editor .*serf-rpc\.key'?$/,
    ],
    [
      "Serf's RPC key is open to all",
      () => {
        const file = join(node.directory, 'etc', 'serf-rpc.key');
        chmodSync(file, 0o644);
        return () => {
          chmodSync(file, 0o600);
        };
      },
      { 'serf-rpc-key': /can be read by every user$/ },
      /^chmod 640 /,
    ],
    [
      'the key set is missing',
      () => {
        const { keySetFile } = node.config;
        renameSync(keySetFile, `${keySetFile}.away`);
        return () => {
          renameSync(`${keySetFile}.away`, keySetFile);
        };
      },
      { 'key-set': /it does not exist/ },
      / setup --keyset keyset\.txt$/,
    ],
    [
      'a directory has a wrong mode',
      () => {
        chmodSync(node.config.stateDir, 0o777);
        return () => {
          chmodSync(node.config.stateDir, 0o755);
        };
      },
      { places: /state can be written by every user$/ },
      /^chmod o-w /,
    ],
    [
      'the hook is another path',
      () => hook('/nowhere/transmission-done.cjs'),
      { 'transmission-hook': /^the hook \/nowhere\/transmission-done\.cjs does not exist/ },
      /^editor .*settings\.json'?$/,
    ],
    [
      'the hook is off',
      () => withSettings({ 'script-torrent-done-enabled': false }),
      { 'transmission-hook': /^script-torrent-done-enabled is false/ },
    ],
    [
      'the hook has no run bit',
      () => hook(program('hook-1', '#!/bin/sh\n', 0o644)),
      { 'transmission-hook-run': /cannot be run by the daemon's user \(exit status 126\)$/ },
      /^chmod a\+rx /,
    ],
    [
      'the hook is aborted, as Node is where memory must not be both written and run',
      () => hook(program('hook-2', '#!/bin/sh\nkill -ABRT $$\n', 0o755)),
      { 'transmission-hook-run': /is ended by signal 6$/ },
    ],
    [
      'Transmission listens on another port than members call',
      () => withSettings({ 'peer-port': 51999 }),
      { 'transmission-port': /^members call 10\.\S+:51413 .*listens on 51999/ },
    ],
    [
      'a handler is missing',
      () =>
        change(serfFile(), (value) => {
          value['event_handlers'] = (value['event_handlers'] as string[]).slice(1);
        }),
      { 'serf-handlers': /^no handler for user:update / },
      /^install -m 644 .*serf\.json/,
    ],
    [
      'a handler names a program that is not there',
      () =>
        change(serfFile(), (value) => {
          value['event_handlers'] = (value['event_handlers'] as string[]).map((each) =>
            each.replace('latest.cjs', 'gone.cjs'),
          );
        }),
      { 'serf-handlers': /gone\.cjs, is not a program that can be run$/ },
    ],
    [
      'there is no Puppet',
      () =>
        change(configFile(), (value) => {
          Object.assign(value['puppet'] as object, { command: '/nowhere/puppet' });
        }),
      { puppet: /^there is no \/nowhere\/puppet$/ },
      /^apt-get install puppet-agent$/,
    ],
    [
      'the wrapper of Puppet has no run bit',
      () =>
        change(configFile(), (value) => {
          const command = program('puppet', '#!/bin/sh\nexec puppet "$@"\n', 0o644);
          Object.assign(value['puppet'] as object, { command });
        }),
      { puppet: /cannot be run: its mode forbids it$/ },
      /^chmod 755 /,
    ],
    [
      'the configuration cannot be used',
      () =>
        change(configFile(), (value) => {
          value['strange'] = 1;
        }),
      { configuration: /is not usable: unknown key "strange"$/ },
      /^editor /,
    ],
  ])('is found when %s', async (_, spoil, expected, fix) => {
    const repair = await spoil();
    let examination: Examination;
    try {
      examination = await examine();
    } finally {
      await repair();
    }
    expect(examination.status).toBe(2);
    const failed = verdictsOf(examination, 'fail');
    // Without its process the place of the agent's files, which is the test's own, is unknown.
    if ('serf-agent' in expected) expect(failed).toContain('serf-agent');
    else expect(failed).toEqual(Object.keys(expected));
    for (const [id, what] of Object.entries(expected)) {
      const check = examination.checks.find((each) => each.id === id);
      expect(check?.what).toMatch(what);
    }
    const fixes = examination.checks
      .filter(({ verdict }) => verdict === 'fail')
      .flatMap((check) => check.fix);
    if (fix) expect(fixes).toContainEqual(expect.stringMatching(fix));
  });

  it('has a warning, and ends with 1, when the members to join are those of the sample', async () => {
    const repair = change(serfFile(), (value) => {
      value['retry_join'] = ['node-1.example.net', 'node-2.example.net'];
    });
    const examination = await examine();
    repair();
    expect(examination.status).toBe(1);
    expect(verdictsOf(examination, 'warn', 'fail')).toEqual(['serf-join']);
  });

  it('is told by its clock when that is before the build', async () => {
    const printed = mustRun([
      'faketime',
      '2020-01-01 00:00:00',
      'printenv',
      'LD_PRELOAD',
      'FAKETIME',
    ]);
    const [preload = '', time = ''] = printed.trimEnd().split('\n');
    const examination = await examine(node, { LD_PRELOAD: preload, FAKETIME: time });
    expect(examination.status).toBe(2);
    expect(verdictsOf(examination, 'fail')).toContain('clock');
  });

  it('is alone when no member to join answers', async () => {
    await other.serf.end('SIGTERM');
    await fleet.waitFor('n1 is alone', async () => (await node.aliveMembers()).length === 1);
    const examination = await examine();
    await other.serf.start();
    await fleet.waitFor('both are back', async () => (await node.aliveMembers()).length === 2);
    expect(verdictsOf(examination, 'fail')).toEqual(['serf-join']);
  });
});

describe('the ports of members', () => {
  const peersOn = async (on: FleetNode) =>
    (await examine(on)).checks.find(({ id }) => id === 'peers');

  it('are refused where Transmission is down', async () => {
    await node.transmission.end('SIGTERM');
    const check = await peersOn(other);
    await node.transmission.start();
    expect(check?.verdict).toBe('fail');
    expect(check?.what).toMatch(/^no member's Transmission can be called: n1 \(\S+ refused\)$/);
    expect(check?.fix).toEqual([`nc -zv ${node.address} 51413`]);
  });

  it('are silent where packets are swallowed, and the check ends all the same', async () => {
    const neighbour = ['ip', 'neigh', 'replace', node.address, 'dev', 'eth0'];
    await other.run([...neighbour, 'lladdr', '02:00:00:00:00:01', 'nud', 'permanent']);
    const check = await peersOn(other);
    await other.run(['ip', 'neigh', 'del', node.address, 'dev', 'eth0']);
    expect(check?.what).toMatch(/ silent\)$/);
  });
});

describe('a full disk', () => {
  it('is found by doctor, and is the fault of the node in the status of the fleet', async () => {
    const { stateDir } = node.config;
    await node.serf.end('SIGTERM');
    const copy = join(fleet.directory, 'state-copy');
    mustRun(['cp', '-a', stateDir, copy]);
    mustRun(['mount', '-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', stateDir]);
    try {
      mustRun(['cp', '-a', `${copy}/.`, stateDir]);
      await node.run(['sh', '-c', 'cat /dev/zero > "$1"/fill', 'sh', stateDir]);
      await node.serf.start();
      await fleet.waitFor('n1 is back', async () => (await other.aliveMembers()).length === 2);
      const examination = await examine();
      expect(verdictsOf(examination, 'fail')).toEqual(['disk']);
      const { status, stdout } = await other.script('status', ['--json']);
      expect(status).toBe(1);
      const { nodes } = JSON.parse(stdout) as {
        nodes: { name: string; verdict: string; why: string }[];
      };
      expect(nodes.find(({ name }) => name === 'n1')).toMatchObject({
        verdict: 'failed',
        why: expect.stringMatching(/^disk full: 0 MiB left at /) as string,
      });
    } finally {
      await node.serf.end('SIGTERM');
      mustRun(['umount', '-l', stateDir]);
      await node.serf.start();
    }
  });
});
