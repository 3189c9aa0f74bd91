import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { buildMetainfo } from '../../lib/announcement/metainfo.ts';
import { makeKeys, signAnnouncement } from '../support/fleet/announce.ts';
import { startFleet, type Fleet } from '../support/fleet/fleet.ts';
import type { FleetNode } from '../support/fleet/fleet-node.ts';
import { readState } from '../support/run/state.ts';
import { hasEvent } from '../support/fleet/submit.ts';
import { announcementOf, seed, sendEvent, torrentsOn } from '../support/fleet/wire.ts';

let fleet: Fleet;
let member: FleetNode;

beforeAll(async () => {
  fleet = await startFleet({ nodes: 3, joins: false });
  member = fleet.nodes[1] as FleetNode;
});

afterAll(() => {
  fleet.stop();
});

const content = Buffer.from('what an attacker would have everybody run');
const announcement = announcementOf(content);

/** All that a node has decided, remembers, or has been given to download. */
const look = async (): Promise<unknown> =>
  Promise.all(
    fleet.nodes.map(async (node) => [
      readState(node.config.stateDir),
      readState(node.config.applyDir),
      readState(node.config.deliveryDir),
      [...(await torrentsOn(node)).keys()],
    ]),
  );

/** The lines of the update handler in a node's events.log. */
const handled = (node: FleetNode) => node.events().filter(({ handler }) => handler === 'update');

/** The lines of Serf's log about handlers that failed. */
const failures = (node: FleetNode): string[] =>
  readFileSync(node.serf.logFile, 'utf8').match(/update\.cjs.*exit status \d+/g) ?? [];

it.each<[string, () => string, RegExp]>([
  [
    'signed by a key of the sender’s own',
    () => signAnnouncement(announcement, makeKeys('test-fleet')),
    /signer [0-9a-f]{16} is not a release key/,
  ],
  [
    'signed by a key of the sender’s own, under the id of a trusted one',
    () => {
      const theirs = signAnnouncement(announcement, makeKeys('test-fleet'));
      const genuine = signAnnouncement(announcement, fleet.keys);
      const forged = Buffer.from(genuine, 'base64url');
      Buffer.from(theirs, 'base64url').copy(forged, forged.length - 64, forged.length - 64);
      return forged.toString('base64url');
    },
    /signature/,
  ],
  [
    'signed by the trusted key for another fleet',
    () => {
      const keySet = { ...fleet.keys.keySet, fleet: 'another-fleet' };
      return signAnnouncement(announcement, { ...fleet.keys, keySet });
    },
    /signature/,
  ],
  [
    'unsigned: a bare .torrent',
    () => {
      const metainfo = buildMetainfo(announcement).toString('latin1');
      const dated = metainfo.replace(/^d/, 'd13:creation datei1700000000e');
      return Buffer.from(dated, 'latin1').toString('base64');
    },
    /without a signature/,
  ],
])('every node refuses an event %s with 77, and keeps nothing', async (_, forge, reason) => {
  const before = await look();
  const lines = fleet.nodes.map((node) => handled(node).length);
  const logged = fleet.nodes.map((node) => failures(node).length);
  await sendEvent(member, forge());
  await fleet.waitFor('every node has had it', () =>
    fleet.nodes.every(
      (node, i) =>
        handled(node).length > (lines[i] ?? 0) && failures(node).length > (logged[i] ?? 0),
    ),
  );
  for (const [i, node] of fleet.nodes.entries()) {
    const [line, ...more] = handled(node).slice(lines[i]);
    expect(more).toEqual([]);
    expect(line).toMatchObject({ decision: 'refuse' });
    expect(line?.reason).toMatch(reason);
    expect(failures(node).slice(logged[i])).toEqual([expect.stringMatching(/exit status 77$/)]);
  }
  expect(await look()).toEqual(before);
});

it('every node applies a genuine event afterwards', async () => {
  const [operator] = fleet.nodes as [FleetNode];
  await seed(operator, announcement, content);
  await sendEvent(member, signAnnouncement(announcement, fleet.keys));
  await fleet.waitFor('every node has applied it', () =>
    fleet.nodes.every((node) => hasEvent(node, announcement, 'applied')),
  );
  for (const { config } of fleet.nodes)
    expect(readFileSync(join(config.deliveryDir, announcement.name))).toEqual(content);
});
