import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { keySetChannel } from '../../lib/announcement/fields.ts';
import { type UpdateId, updateKey } from '../../lib/announcement/update.ts';
import { itemOf } from '../../lib/query/holdings.ts';
import { formatDigest } from '../../lib/query/latest.ts';
import { readCatchUp, readJoinedAt } from '../../lib/reconciler/catch-up/due.ts';
import { listAccepted } from '../../lib/state/facts.ts';
import { currentKeySet } from '../../lib/state/key-chain.ts';
import { formatKeySet } from '../../lib/trust/key-set.ts';
import { programsOf } from '../crash/node-processes.ts';
import { makeAnnouncement, makeKeys, signAnnouncement } from '../support/fleet/announce.ts';
import type { FleetNode } from '../support/fleet/fleet-node.ts';
import { type Fleet, startFleet } from '../support/fleet/fleet.ts';
import { eventsOf, hasEvent, outcomeOf } from '../support/fleet/submit.ts';
import { announcementOf, configure, seed, sendEvent } from '../support/fleet/wire.ts';
import { repository } from '../support/run/repository.ts';

// No agent replays events: missed updates come back by queries alone.

let fleet: Fleet;
/** n1: hears everything. */
let honest: FleetNode;
/** n2: answers that it holds no announcement. */
let withholding: FleetNode;
/** n3: answers what is not true. */
let lying: FleetNode;
/** n4: is away, and comes back. */
let late: FleetNode;

const now = Math.floor(Date.now() / 1000);

beforeAll(async () => {
  fleet = await startFleet({
    nodes: 4,
    serf: { replay_on_join: false, snapshot_path: undefined },
    absent: ['n4'],
  });
  [honest, withholding, lying, late] = fleet.nodes as [
    ...[FleetNode, FleetNode, FleetNode, FleetNode],
  ];
});

afterAll(() => {
  fleet.stop();
});

/** Seeds content on n1, and announces it to the nodes that hear events. */
async function announce(
  channel: string,
  change: { version?: number; epoch?: number } = {},
): Promise<UpdateId> {
  const id = { channel, version: now, ...change };
  const content = Buffer.from(`${channel}@${id.version}`);
  const update = announcementOf(content, { name: `${channel}.bin`, ...id });
  await seed(honest, update, content);
  await sendEvent(honest, signAnnouncement(update, fleet.keys));
  await fleet.waitFor(`n1 holds ${channel}`, () => held(honest).includes(updateKey(id)));
  return id;
}

/** Makes the next key set, which has a new root key, by the root keys before it. */
async function changeKeys(epoch: number): Promise<void> {
  const { keySet } = fleet.keys;
  const next = makeKeys(keySet.fleet);
  const changed = { ...keySet, epoch, rootKeys: next.keySet.rootKeys };
  const content = Buffer.from(formatKeySet(changed));
  const update = announcementOf(content, {
    ...{ kind: 'keyset', channel: keySetChannel, version: epoch, epoch: epoch - 1 },
    name: `keyset-${epoch}.txt`,
  });
  const payload = signAnnouncement(update, fleet.keys);
  await seed(honest, update, content);
  await sendEvent(honest, payload);
  await fleet.waitFor(
    `key set ${epoch} is in force on n1`,
    () => currentKeySet(honest.config).epoch === epoch,
  );
  fleet.keys = { ...fleet.keys, keySet: changed, rootKeys: next.rootKeys };
}

async function start(node: FleetNode): Promise<void> {
  await Promise.all([node.serf.start(), node.transmission.start()]);
}

async function leave(node: FleetNode): Promise<void> {
  await Promise.all([node.serf.end('SIGKILL'), node.transmission.end('SIGKILL')]);
}

/** Runs the reconciler as the node's timer does. */
async function reconcile(node: FleetNode): Promise<void> {
  const { status, stderr } = await node.run([
    join(repository, 'dist/p2p-update.cjs'),
    'reconcile',
    '--no-wait',
  ]);
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
}

/** Has a node answer the query by a script: $1 is the first word that was asked. */
async function answerBy(node: FleetNode, script: string): Promise<void> {
  const file = join(node.directory, 'etc', 'answer.sh');
  writeFileSync(file, `#!/bin/sh\nread -r kind rest\n${script}\n`, { mode: 0o755 });
  const configFile = join(node.directory, 'serf', '10-serf.json');
  const serf = JSON.parse(readFileSync(configFile, 'utf8')) as { event_handlers: string[] };
  serf.event_handlers = serf.event_handlers.map((each) =>
    each.startsWith('query:update-latest=') ? `query:update-latest='${file}'` : each,
  );
  writeFileSync(configFile, JSON.stringify(serf));
  await node.serf.end('SIGKILL');
  await node.serf.start();
}

const held = (node: FleetNode): string[] => listAccepted(node.config.stateDir).map(updateKey);
const hasApplied = (node: FleetNode, id: UpdateId): boolean =>
  outcomeOf(node, id)?.state === 'APPLIED';
const everybodyKnows = (count: number): Promise<boolean> =>
  fleet.waitFor('the members know each other', async () => {
    const known = await Promise.all(fleet.nodes.map((node) => node.aliveMembers()));
    return known.every((members) => members.length === count);
  });

describe('a node that heard no event', () => {
  it('has every channel soon after it has joined', async () => {
    const ids = await Promise.all(['one', 'two', 'three'].map((channel) => announce(channel)));
    await start(late);
    await fleet.waitFor('n4 has accepted all', () =>
      ids.every((id) => hasEvent(late, id, 'accept')),
    );
    for (const id of ids) {
      const [first] = eventsOf(late, id);
      expect(first).toMatchObject({ handler: 'advance', decision: 'accept' });
      expect(first?.reason).toMatch(/, from n[123]$/);
    }
  });

  it('has every channel although one neighbour withholds and another one forges', async () => {
    await leave(late);
    const id = await announce('one', { version: now + 1 });
    const forged = signAnnouncement(
      makeAnnouncement({ channel: 'one', version: now + 2 }),
      makeKeys(),
    );
    // Genuine bytes with a spoiled signature must not keep the genuine announcement away.
    const genuine = payloadOf(honest, id);
    const spoiled = `${genuine.slice(0, -4)}${genuine.endsWith('AAAA') ? 'BBBA' : 'AAAA'}`;
    const digest = formatDigest([await itemOf(spoiled), await itemOf(forged)], 9);
    const texts = join(lying.directory, 'etc', 'texts');
    writeFileSync(texts, [spoiled, forged].join('\n'));
    writeFileSync(`${texts}.digest`, digest);
    await answerBy(
      lying,
      `case $kind in digest) cat '${texts}.digest' ;; *) cat '${texts}' ;; esac`,
    );
    await answerBy(withholding, "echo '1 1 0 00000000'");
    await start(late);
    await fleet.waitFor('n4 has applied it', () => hasApplied(late, id));
    await fleet.waitFor('n4 has refused what n3 said', () =>
      late
        .events()
        .some(({ decision, reason }) => decision === 'refuse' && reason.endsWith(', from n3')),
    );
    const { channel } = id;
    expect(held(late).filter((name) => name.startsWith('one@'))).not.toContain(
      updateKey({ channel, version: now + 2 }),
    );
    expect(payloadOf(late, id)).toBe(genuine);
    await everybodyKnows(4);
  });

  it('has every channel although a neighbour answers rubbish of every size', async () => {
    await leave(late);
    const id = await announce('two', { version: now + 1 });
    await answerBy(lying, 'head -c 900 /dev/urandom');
    await answerBy(withholding, "head -c 100000 /dev/zero | tr '\\0' x");
    await start(late);
    await fleet.waitFor('n4 holds it', () => held(late).includes(updateKey(id)));
  });

  it('follows the chain of key sets, two epochs of them', async () => {
    await leave(late);
    for (const epoch of [2, 3]) await changeKeys(epoch);
    const id = await announce('three', { version: now + 1, epoch: 3 });
    await start(late);
    await fleet.waitFor('n4 has applied what needs key set 3', async () => {
      await reconcile(late);
      return hasApplied(late, id);
    });
    expect(currentKeySet(late.config).epoch).toBe(3);
    for (const version of [2, 3])
      expect(hasApplied(late, { channel: keySetChannel, version })).toBe(true);
  });
});

function payloadOf(node: FleetNode, id: UpdateId): string {
  const file = join(node.config.stateDir, 'announcements', updateKey(id));
  const [, json = ''] = readFileSync(file, 'utf8').split('\n');
  return (JSON.parse(json) as { payload: string }).payload;
}

describe('forty joins at once', () => {
  it('lead to a few queries', async () => {
    const program = join(late.directory, 'etc', 'serf.sh');
    const log = join(late.directory, 'etc', 'queries');
    writeFileSync(program, `#!/bin/sh\necho "$*" >> '${log}'\nexec serf "$@"\n`, { mode: 0o755 });
    configure(late, { serf: { ...late.config.serf, command: program } });
    // One that ran already asks by the command that it knows, and would not be counted.
    await fleet.waitFor(
      'no reconciler runs any more',
      () => programsOf(late.namespace, 'p2p-update.cjs reconcile').length === 0,
    );
    writeFileSync(log, '');
    const begunAt = Date.now();
    const handler = join(repository, 'dist/handlers/member-join.cjs');
    const script = 'for i in $(seq 40); do "$0" < /dev/null & done; wait';
    const env = { SERF_EVENT: 'member-join', SERF_SELF_NAME: 'n4' };
    const { status, stderr } = await late.run(['sh', '-c', script, handler], { env });
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    const joins = (): number =>
      late.events().filter((event) => event.handler === 'member-join').length;
    expect(joins()).toBeGreaterThanOrEqual(40);
    const { stateDir } = late.config;
    await fleet.waitFor('a catch-up has begun after the last join, and is over', async () => {
      await reconcile(late);
      const last = readCatchUp(stateDir);
      const joinedAt = readJoinedAt(stateDir) ?? Infinity;
      // On a busy machine Serf may take the others for failed for a while: then there is nobody to ask.
      return last?.left === 'nothing' && last.members > 1 && last.startedAt >= joinedAt;
    });
    const seconds = (Date.now() - begunAt) / 1000;
    const queries = readFileSync(log, 'utf8')
      .split('\n')
      .filter((line) => line.endsWith('update-latest digest'));
    expect(queries.length).toBeGreaterThanOrEqual(1);
    // One for every 10 s until it is over, one after the last join, and some that were cut short.
    expect(queries.length).toBeLessThanOrEqual(3 + seconds / 5);
  });
});
