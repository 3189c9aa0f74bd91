import { randomBytes } from 'node:crypto';
import { chmodSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import {
  decodeAnnouncement,
  defaultPayloadChars,
  encodeAnnouncement,
  encodeBody,
} from '../../lib/announcement/codec.ts';
import { connectSerf, type SerfClient, type SerfSettings } from '../../lib/daemons/serf/client.ts';
import { UpdateError } from '../../lib/errors.ts';
import type { FleetNode } from '../support/fleet/fleet-node.ts';
import { type Fleet, startFleet } from '../support/fleet/fleet.ts';
import { repository } from '../support/run/repository.ts';

// Each event's bytes, as a handler gets them on stdin, in a file named by Lamport time. Serf runs one
// handler at a time.
const capture =
  'user:update=cat > "$HOME/stdin" && mv "$HOME/stdin" "$HOME/captured/$SERF_USER_LTIME"';

let fleet: Fleet;
let n1: FleetNode;
let n2: FleetNode;
let serf: SerfClient;

beforeAll(async () => {
  fleet = await startFleet({
    nodes: 3,
    transmission: false,
    serf: { event_handlers: [capture] },
  });
  [n1, n2] = fleet.nodes as [FleetNode, FleetNode];
  for (const { env } of fleet.nodes) mkdirSync(join(env['HOME'] ?? '', 'captured'));
  serf = connectSerf(settingsOf(n1));
  return () => {
    fleet.stop();
  };
});

describe('the members', () => {
  it('are those of the fleet, with address and Transmission port', async () => {
    const members = await serf.members();
    expect(members.sort((a, b) => a.name.localeCompare(b.name))).toEqual(
      fleet.nodes.map(({ name, address }) => ({
        name,
        address,
        port: 7946,
        status: 'alive',
        tags: { bt: '51413' },
      })),
    );
  });

  it('include the local node', async () => {
    expect(await serf.selfName()).toBe('n1');
    expect(await connectSerf(settingsOf(n2)).selfName()).toBe('n2');
  });
});

describe('a payload', () => {
  it.each([
    ['plain text', 'AQEAAQ-_'],
    ['nothing', ''],
    ['spaces and quotes', ` a  'b' "c" $HOME \`d\` \\ `],
    ['tabs and carriage returns', '\ta\r'],
    ['no ASCII', 'Zürich → 東京'],
    ['a leading dash', '-AQEA'],
    ['a flag of serf event', '-coalesce=true'],
    ['a call for help', '--help'],
    ['its own -version', '-version'],
    ['two lines', 'a\nb'],
  ])('arrives everywhere byte for byte, with one newline at its end: %s', async (_, payload) => {
    expect(await delivered([payload])).toEqual([payload === '' ? '' : `${payload}\n`]);
  });

  it('gets no second newline when it ends in one', async () => {
    expect(await delivered(['a\n'])).toEqual(['a\n']);
  });

  it.each(['-v', '--version'])('is refused when Serf would take it for %s', async (flag) => {
    const error = await failureOf(serf.sendEvent('update', flag));
    expect(error.code).toBe('malformed');
    // It is not under way: the next event is the only one to arrive.
    expect(await delivered(['next'])).toEqual(['next\n']);
  });

  it('is not coalesced with others of its name: 20 at once are 20', async () => {
    const payloads = Array.from({ length: 20 }, (_, index) => `event ${index}`);
    const arrived = await delivered(payloads);
    expect(arrived.sort()).toEqual(payloads.map((payload) => `${payload}\n`).sort());
  });
});

describe('the limit of an event under the default configuration', () => {
  // The clock is part of the encoded event: 1, 2, 3, 5 or 9 bytes (msgpack). Serf restores it from the
  // snapshot; the largest is the worst case.
  it.each([
    ['a young fleet', 0],
    ['an old fleet', 70_000],
    ['the largest clock', 2 ** 53],
  ])('leaves room for a full announcement: %s', async (_, clock) => {
    await n1.serf.end('SIGKILL');
    const snapshot = join(n1.directory, 'serf-state', 'serf.snapshot');
    writeFileSync(snapshot, clock === 0 ? '' : `event-clock: ${clock}\n`);
    await Promise.all(fleet.nodes.slice(1).map((node) => node.serf.end('SIGKILL')));
    await n1.serf.start();

    const limit = await largestPayload();
    console.log(`event clock ${clock}: ${limit} bytes of payload`);
    expect(limit).toBeGreaterThanOrEqual(defaultPayloadChars);
    // Some of Serf's limits are on the encoded event, some on the payload; its messages do not tell which.
    const error = await failureOf(serf.sendEvent('update', 'x'.repeat(limit + 1)));
    expect(error.code).toBe('malformed');
    expect(error.message).toMatch(/limit of 512 bytes/);
  });

  it.each([1, 2, 3])('leaves room for %i signers, and the text arrives intact', async (signers) => {
    await Promise.all(fleet.nodes.map((node) => node.serf.end('SIGKILL')));
    for (const node of fleet.nodes) {
      writeFileSync(
        join(node.directory, 'serf-state', 'serf.snapshot'),
        `event-clock: ${2 ** 53}\n`,
      );
    }
    for (const node of fleet.nodes) await node.serf.start();
    await fleet.waitFor('the fleet is whole', async () => (await n2.aliveMembers()).length === 3);

    const text = fullAnnouncement(signers);
    expect(text).toHaveLength(defaultPayloadChars);
    const [arrived] = await delivered([text]);
    expect(arrived).toBe(`${text}\n`);
    expect(decodeAnnouncement(text).signers).toHaveLength(signers);
  });
});

describe('an agent that cannot be used', () => {
  it('is reported when it has another key, and no event is sent', async () => {
    const rpcAuthFile = join(n1.directory, 'wrong.key');
    writeFileSync(rpcAuthFile, 'not the key\n');
    for (const wrong of [rpcAuthFile, null]) {
      const client = connectSerf({ ...settingsOf(n1), rpcAuthFile: wrong });
      for (const call of callsOf(client)) {
        const error = await failureOf(call());
        expect(error.code).toBe('configuration');
        expect(error.message).toContain('refuses our RPC key');
        expect(error.message).not.toContain('not the key');
        expect(error.hint).toContain('serf.rpcAuthFile');
      }
    }
    expect(await delivered(['next'])).toEqual(['next\n']);
  });

  it('is reported when it is down, and works again once it is up', async () => {
    await n1.serf.end('SIGKILL');
    for (const call of callsOf(serf)) {
      const error = await failureOf(call());
      expect(error.code).toBe('unavailable');
      expect(error.message).toContain('connection refused');
      expect(error.hint).toContain('systemctl status serf');
    }
    await n1.serf.start();
    await fleet.waitFor('n1 is back', async () => (await n2.aliveMembers()).length === 3);
    expect(await delivered(['next'])).toEqual(['next\n']);
  });

  it('is reported when another program listens there', async () => {
    // The gossip port speaks another protocol.
    const client = connectSerf({ ...settingsOf(n1), rpcAddress: `${n1.address}:7946` });
    expect((await failureOf(client.members())).code).toBe('unavailable');
  });
});

describe('serf.json', () => {
  it('is taken by a stock agent, and holds no secret', async () => {
    const sample = join(repository, 'serf.json');
    expect(Object.keys(JSON.parse(readFileSync(sample, 'utf8')) as object)).not.toContain(
      'rpc_auth',
    );
    expect(readFileSync(sample, 'utf8')).not.toContain('key');
    const snapshot = join(n2.directory, 'sample.snapshot');
    await n2.serf.end('SIGINT');
    // Only where the snapshot is differs.
    const agent = ['serf', 'agent', '-config-file', sample, '-snapshot', snapshot];
    const { stdout } = await n2.run(['timeout', '-s', 'INT', '1', ...agent]);
    expect(stdout).toContain('Serf agent running!');
    expect(stdout).toContain('Snapshot: true');
    expect(stdout).toContain("RPC addr: '127.0.0.1:7373'");
    await n2.serf.start();
  });

  it('runs our handler on every node, which refuses rubbish and logs it', async () => {
    const shipped = await startFleet({ nodes: 2, transmission: false });
    try {
      const [sender] = shipped.nodes as [FleetNode];
      await connectSerf(settingsOf(sender)).sendEvent('update', 'rubbish');
      for (const node of shipped.nodes) {
        // A member that joined has its line too.
        await shipped.waitFor(`the handler's line on ${node.name}`, () =>
          node.events().some((event) => event.handler === 'update' && event.decision === 'refuse'),
        );
      }
    } finally {
      shipped.stop();
    }
  });
});

/** Sends payloads from n1; returns the input of the handlers, which must be the same on every node. */
async function delivered(payloads: readonly string[]): Promise<string[]> {
  for (const node of fleet.nodes) {
    for (const name of captured(node)) writeFileSync(join(capturedDir(node), name), 'seen');
  }
  for (const payload of payloads) await serf.sendEvent('update', payload);
  const results: string[][] = [];
  for (const node of fleet.nodes) {
    const fresh = await fleet.waitFor(`${payloads.length} events on ${node.name}`, () => {
      const contents = captured(node)
        .map((name) => readFileSync(join(capturedDir(node), name), 'utf8'))
        .filter((content) => content !== 'seen');
      return contents.length >= payloads.length && contents;
    });
    results.push(fresh);
  }
  for (const result of results) expect(result).toEqual(results[0]);
  return results[0] ?? [];
}

function capturedDir(node: FleetNode): string {
  return join(node.env['HOME'] ?? '', 'captured');
}

/** The Lamport times of the events that a node's handler got, in order. */
function captured(node: FleetNode): string[] {
  return readdirSync(capturedDir(node)).sort((a, b) => Number(a) - Number(b));
}

/** The longest payload of event `update` that n1's agent sends, by bisection. */
async function largestPayload(): Promise<number> {
  let fits = 0;
  let tooLong = 1024;
  while (tooLong - fits > 1) {
    const middle = Math.floor((fits + tooLong) / 2);
    const sent = await serf.sendEvent('update', 'x'.repeat(middle)).then(
      () => true,
      () => false,
    );
    if (sent) fits = middle;
    else tooLong = middle;
  }
  return fits;
}

/** An announcement of 351 bytes, all that the default limit leaves: as many pieces as fit, then names. */
function fullAnnouncement(signers: number): string {
  const text = 351 - 87 - 4 - 72 * signers;
  const pieces = Math.floor((text - 10) / 20);
  const rest = text - 20 * pieces;
  const ids = Array.from({ length: signers }, (_, index) => String(index).repeat(16));
  const body = encodeBody(
    {
      kind: 'file',
      noop: false,
      rerun: false,
      epoch: 1,
      version: 1,
      created: 1_700_000_000,
      notBefore: 0,
      expires: 1_800_000_000,
      infoHash: randomBytes(20).toString('hex'),
      sha256: randomBytes(32).toString('hex'),
      length: Math.max(1, pieces) << 20,
      pieceLength: 1 << 20,
      channel: 'default',
      name: 'n'.repeat(rest - 7),
      target: '',
      pieces: randomBytes(20 * pieces),
    },
    ids,
  );
  return encodeAnnouncement(
    body,
    ids.map(() => randomBytes(64)),
  );
}

/** Our client for a node's agent; its `serf` command runs on that node. */
function settingsOf(node: FleetNode): SerfSettings {
  const command = join(node.directory, 'serf-here');
  writeFileSync(command, `#!/bin/sh\nexec ip netns exec ${node.namespace} serf "$@"\n`);
  chmodSync(command, 0o755);
  const { rpcAddress, rpcAuthFile } = node.config.serf;
  return { command, rpcAddress, rpcAuthFile, timeoutSeconds: 10 };
}

function callsOf(client: SerfClient): (() => Promise<unknown>)[] {
  return [() => client.sendEvent('update', 'x'), () => client.members(), () => client.selfName()];
}

async function failureOf(action: Promise<unknown>): Promise<UpdateError> {
  const error: unknown = await action.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (error instanceof UpdateError) return error;
  throw new Error('it did not fail as it should', { cause: error });
}
