import { chmodSync, existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import type { Announcement } from '../../lib/announcement/fields.ts';
import { signAnnouncement } from '../support/fleet/announce.ts';
import { Daemon } from '../support/fleet/daemon.ts';
import type { FleetNode } from '../support/fleet/fleet-node.ts';
import { type Fleet, startFleet } from '../support/fleet/fleet.ts';
import { eventsOf, hasEvent } from '../support/fleet/submit.ts';
import {
  announcementOf,
  configure,
  rpcCommand,
  sendEvent,
  torrentsOn,
} from '../support/fleet/wire.ts';
import type { CommandResult } from '../support/run/command.ts';
import { repository } from '../support/run/repository.ts';
import { readState } from '../support/run/state.ts';

let fleet: Fleet;
let node: FleetNode;
let other: FleetNode;

beforeAll(async () => {
  // The handlers alone may change a state while it is looked at.
  fleet = await startFleet({
    nodes: 2,
    joins: false,
    config: { trigger: 'spool' },
  });
  [node, other] = fleet.nodes as [FleetNode, FleetNode];
  // Only the secrets' own modes may be what is in a local user's way.
  for (const directory of [fleet.directory, dirname(fleet.directory), node.directory])
    chmodSync(directory, 0o755);
});

afterAll(() => {
  fleet.stop();
});

const serfPort = 7373;
const transmissionPort = 9091;

/** Runs a command on a node as a user without any rights. */
const asNobody = (argv: string[], env = {}, input = ''): Promise<CommandResult> =>
  node.run(['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups', ...argv], {
    env,
    input,
    cwd: '/',
  });

const everyState = (): unknown =>
  fleet.nodes.map(({ config }) => [
    readState(config.stateDir),
    readState(config.applyDir),
    readState(config.deliveryDir),
  ]);

/** The addresses, in hexadecimal, at which anybody in a node's namespace listens on a TCP port. */
async function listenersOn(port: number): Promise<string[]> {
  const { stdout } = await node.run(['cat', '/proc/net/tcp', '/proc/net/tcp6']);
  const hex = port.toString(16).toUpperCase().padStart(4, '0');
  return stdout
    .split('\n')
    .map((line) => line.trim().split(/\s+/))
    .filter(([, local, , state]) => local?.endsWith(`:${hex}`) === true && state === '0A')
    .map(([, local]) => local?.split(':')[0] ?? '');
}

let versions = 0;
/** An announcement that every node would accept, were it sent by a member. */
const genuine = (target = ''): { update: Announcement; payload: string } => {
  versions += 1;
  const content = Buffer.from(`content ${versions}`);
  const change = { channel: `c${versions}`, name: `c${versions}.bin`, target };
  const update = announcementOf(content, change);
  return { update, payload: signAnnouncement(update, fleet.keys) };
};

/** Shows, by an update that comes later, that `before` reached no node. */
async function expectUnheard(before: Announcement, state: unknown): Promise<void> {
  expect(everyState()).toEqual(state);
  // For a node that is not there: it is kept, and no reconciler tries to download it.
  const { update, payload } = genuine('node=elsewhere');
  await sendEvent(other, payload);
  await fleet.waitFor('a later one is accepted by every node', () =>
    fleet.nodes.every((each) => hasEvent(each, update, 'accept')),
  );
  for (const each of fleet.nodes) expect(eventsOf(each, before)).toEqual([]);
}

describe('the RPCs of Serf and of Transmission', () => {
  it('listen on the loopback address only', async () => {
    expect(await listenersOn(serfPort)).toEqual(['0100007F']);
    expect(await listenersOn(transmissionPort)).toEqual(['0100007F']);
    // A port that is open to the network is seen by the same means.
    expect(await listenersOn(7946)).toHaveLength(1);
    expect(await listenersOn(7946)).not.toContain('0100007F');
  });

  it.each([
    ['Serf', serfPort],
    ['Transmission', transmissionPort],
  ])('cannot be connected to from another machine (%s)', async (_, port) => {
    const knock = `
      const socket = require('node:net').connect(Number(process.argv[2]), process.argv[1]);
      socket.on('connect', () => { console.log('connected'); socket.destroy(); });
      socket.on('error', (error) => console.log(error.code));`;
    const from = (place: FleetNode, address: string, at: number): Promise<CommandResult> =>
      place.run(['node', '-e', knock, address, String(at)]);
    expect(await from(other, node.address, port)).toMatchObject({ stdout: 'ECONNREFUSED\n' });
    expect(await from(other, node.address, 7946)).toMatchObject({ stdout: 'connected\n' });
    expect(await from(node, '127.0.0.1', port)).toMatchObject({ stdout: 'connected\n' });
  });

  it('have their secrets in files that a local user cannot read', async () => {
    const { transmission, serf } = node.config;
    const files = [
      transmission.credentialsFile ?? '',
      serf.rpcAuthFile ?? '',
      join(node.directory, 'serf', '20-secrets.json'),
      join(node.directory, 'transmission', 'settings.json'),
    ];
    for (const file of files) {
      expect(statSync(file).mode & 0o007).toBe(0);
      const { status, stderr } = await asNobody(['cat', file]);
      expect(status).not.toBe(0);
      expect(stderr).toMatch(/Permission denied/);
    }
    // The way to them is open, so it is the files' modes that count.
    expect(await asNobody(['cat', node.configFile])).toMatchObject({ status: 0 });
  });
});

describe('user nobody', () => {
  it.each<[string, (payload: string) => string[]]>([
    ['send an event', (payload) => ['event', '-coalesce=false', 'update', payload]],
    ['set a tag', () => ['tags', '-set', 'role=web']],
    ['query the fleet', () => ['query', '-timeout=1s', 'update-status']],
    ['list the members', () => ['members']],
    ['have the agent leave', () => ['leave']],
    ['follow the log', () => ['monitor']],
  ])('cannot %s through Serf, without a key or with a wrong one', async (_, args) => {
    const state = everyState();
    const { update, payload } = genuine();
    for (const env of [{}, { SERF_RPC_AUTH: 'a guess' }]) {
      const { status, stdout, stderr } = await asNobody(['serf', ...args(payload)], env);
      expect(status).not.toBe(0);
      expect(stdout + stderr).toMatch(/Authentication required|Invalid authentication token/);
    }
    await expectUnheard(update, state);
    const members = await node.aliveMembers();
    expect(members.map(({ tags }) => tags)).toEqual([{ bt: '51413' }, { bt: '51413' }]);
  });

  it.each([
    ['session-get', {}],
    ['session-set', { 'script-torrent-done-filename': '/tmp/evil' }],
    ['torrent-add', { filename: `magnet:?xt=urn:btih:${'ab'.repeat(20)}` }],
    ['torrent-remove', { 'delete-local-data': true }],
    ['session-close', {}],
  ])(
    'cannot call %s of Transmission, without a login or with a wrong one',
    async (method, args) => {
      const before = await torrentsOn(node);
      const login = join(fleet.directory, 'guess.json');
      writeFileSync(login, JSON.stringify({ username: 'p2p-update', password: 'a guess' }));
      chmodSync(login, 0o644);
      const request = JSON.stringify({ method, arguments: args });
      for (const file of [null, login]) {
        const command = rpcCommand(node.config.transmission.url, file);
        const { stdout } = await asNobody(command, {}, request);
        expect(stdout.split('\n')[0]).toBe('401');
      }
      expect(await torrentsOn(node)).toEqual(before);
    },
  );
});

describe('a machine that is no member', () => {
  it('cannot run a handler by a raw packet with a user event', async () => {
    const state = everyState();
    const { update, payload } = genuine();
    const shoot = `
      const socket = require('node:dgram').createSocket('udp4');
      const [address, port, hex] = process.argv.slice(1);
      socket.send(Buffer.from(hex, 'hex'), Number(port), address, () => socket.close());`;
    const packet = userEventPacket(1000, 'update', payload).toString('hex');
    const shootAt = (address: string, port: number): Promise<CommandResult> =>
      other.run(['node', '-e', shoot, address, String(port), packet]);

    for (let shot = 0; shot < 3; shot += 1)
      expect(await shootAt(node.address, 7946)).toMatchObject({ status: 0, stderr: '' });
    await fleet.waitFor('the agent has refused the packet', () =>
      /Decrypt packet failed/.test(readFileSync(node.serf.logFile, 'utf8')),
    );
    await expectUnheard(update, state);

    // An agent without encrypt_key shows that only the key was missing.
    const woken = join(fleet.directory, 'woken');
    const open = new Daemon({
      namespace: node.namespace,
      command: [
        ...['serf', 'agent', '-node=open', `-bind=${node.address}:7950`],
        ...['-rpc-addr=127.0.0.1:7374', `-event-handler=user:update=cat >'${woken}'`],
      ],
      env: node.env,
      logFile: join(fleet.directory, 'open.log'),
      port: 7374,
    });
    await open.start();
    onTestFinished(() => open.end('SIGKILL'));
    await shootAt(node.address, 7950);
    await fleet.waitFor('its handler has run', () => existsSync(woken) && statSync(woken).size > 0);
    expect(readFileSync(woken, 'utf8')).toBe(`${payload}\n`);
  });
});

describe('reconcile distinguishes a wrong password from a lock-out', () => {
  const reconcile = (): Promise<CommandResult> =>
    node.run([join(repository, 'dist/p2p-update.cjs'), 'reconcile', '--no-wait']);

  it('by 78 and 75, each with a hint, and goes on once Transmission lets it in', async () => {
    const { update, payload } = genuine();
    const { transmission } = node.config;
    const wrong = join(node.directory, 'etc', 'wrong.json');
    writeFileSync(wrong, '{"username":"p2p-update","password":"yesterday"}', { mode: 0o600 });
    configure(node, { transmission: { ...transmission, credentialsFile: wrong } });
    await sendEvent(other, payload);
    await fleet.waitFor('it is accepted', () => hasEvent(node, update, 'accept'));
    const refused = await reconcile();
    expect(refused.status).toBe(78);
    expect(refused.stderr).toMatch(/error: .*\(401\)\n.*hint: .*rpc-password.*wrong\.json/);

    const guess = `
      const { request } = require('node:http');
      const [url] = process.argv.slice(1);
      let left = 110;
      const next = () => request(url, { method: 'POST', auth: 'p2p-update:' + left }, (response) => {
        response.resume();
        response.on('end', () => ((left -= 1) === 0 ? console.log(response.statusCode) : next()));
      }).end();
      next();`;
    const guessing = await asNobody([process.execPath, '-e', guess, transmission.url]);
    expect(guessing).toMatchObject({ stdout: '403\n' });

    configure(node, {});
    const locked = await reconcile();
    expect(locked.status).toBe(75);
    expect(locked.stderr).toMatch(/error: .*\(403\)\n.*hint: restart transmission-daemon/);
    // The first pass of a node makes its directories, which is news, for which it looks again.
    const lines = node.events().flatMap(({ handler, decision, reason }) => {
      const [code] = /\(40[13]\)/.exec(reason) ?? [];
      return code === undefined ? [] : [`${handler} ${decision} ${code}`];
    });
    expect(lines.length).toBeLessThanOrEqual(3);
    expect([...new Set(lines)]).toEqual(['advance wait (401)', 'advance wait (403)']);

    await node.transmission.end('SIGTERM');
    await node.transmission.start();
    // It would go on to look for peers, whom there are none of.
    void reconcile();
    await fleet.waitFor('Transmission has been given it', () => hasEvent(node, update, 'queued'));
  });
});

/**
 * A packet as memberlist of an open fleet takes it: userMsg (8, net.go), then Serf's
 * messageUserEventType (3, messages.go) and its message in msgpack.
 */
function userEventPacket(lamportTime: number, name: string, payload: string): Buffer {
  const raw = (text: string): Buffer => {
    const bytes = Buffer.from(text);
    const length = Buffer.from([0xda, bytes.length >> 8, bytes.length & 0xff]);
    return Buffer.concat([length, bytes]);
  };
  const time = Buffer.from([0xcd, lamportTime >> 8, lamportTime & 0xff]);
  const fields = [raw('LTime'), time, raw('Name'), raw(name), raw('Payload'), raw(payload)];
  const coalesce = [raw('CC'), Buffer.from([0xc2])];
  return Buffer.concat([Buffer.from([8, 3, 0x84]), ...fields, ...coalesce]);
}
