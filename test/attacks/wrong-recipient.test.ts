import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Announcement } from '../../lib/announcement/fields.ts';
import { updateKey } from '../../lib/announcement/update.ts';
import { signAnnouncement } from '../support/fleet/announce.ts';
import type { FleetNode } from '../support/fleet/fleet-node.ts';
import { type Fleet, startFleet } from '../support/fleet/fleet.ts';
import { eventsOf, hasEvent, outcomeOf } from '../support/fleet/submit.ts';
import { announcementOf, configure, seed, sendEvent, torrentsOn } from '../support/fleet/wire.ts';
import { repository } from '../support/run/repository.ts';

let fleet: Fleet;
let web: FleetNode;
let pretender: FleetNode;

const content = Buffer.from('for web servers only');
let update: Announcement;

beforeAll(async () => {
  fleet = await startFleet({ nodes: 2 });
  [web, pretender] = fleet.nodes as [FleetNode, FleetNode];
  configure(web, { tags: { role: 'web' } });
  update = announcementOf(content, { target: 'role=web' });
  await seed(web, update, content);
});

afterAll(() => {
  fleet.stop();
});

const isDelivered = (node: FleetNode): boolean =>
  existsSync(join(node.config.deliveryDir, update.name));

const reconcile = (node: FleetNode) =>
  node.run([join(repository, 'dist/p2p-update.cjs'), 'reconcile', '--no-wait']);

it('an update for role=web is applied where root sets the tag, not where only Serf has it', async () => {
  const { status } = await pretender.serfCommand(['tags', '-set', 'role=web']);
  expect(status).toBe(0);
  await fleet.waitFor('the fleet takes it for a web server', async () => {
    const members = await web.aliveMembers();
    return members.some(({ name, tags }) => name === pretender.name && tags['role'] === 'web');
  });
  await sendEvent(web, signAnnouncement(update, fleet.keys));
  await fleet.waitFor('the web server has applied it', () => hasEvent(web, update, 'applied'));
  expect(isDelivered(web)).toBe(true);

  await fleet.waitFor('the other has had it', () => hasEvent(pretender, update, 'accept'));
  expect(await reconcile(pretender)).toMatchObject({ status: 0, stderr: '' });
  expect(eventsOf(pretender, update)).toMatchObject([
    { handler: 'update', decision: 'accept', reason: 'kept for others: not a target' },
  ]);
  expect((await torrentsOn(pretender)).size).toBe(0);
  expect(readdirSync(pretender.config.downloadDir)).toEqual([]);
  expect(isDelivered(pretender)).toBe(false);
  expect(outcomeOf(pretender, update)).toBeUndefined();
});

it('is kept by the other node, which serves it', () => {
  expect(readdirSync(join(pretender.config.stateDir, 'announcements'))).toEqual([
    updateKey(update),
  ]);
});

it('is also not applied by a node that claims another’s name', async () => {
  const named = announcementOf(content, {
    channel: 'named',
    target: `node=${pretender.name}`,
    name: 'named.bin',
  });
  await seed(web, named, content);
  // Root's word on the name is in the configuration; here it says something else than Serf.
  configure(pretender, { nodeName: 'n3' });
  await sendEvent(web, signAnnouncement(named, fleet.keys));
  await fleet.waitFor('both have had it', () =>
    fleet.nodes.every((node) => hasEvent(node, named, 'accept')),
  );
  for (const node of fleet.nodes) {
    expect(await reconcile(node)).toMatchObject({ status: 0, stderr: '' });
    expect(outcomeOf(node, named)).toBeUndefined();
  }
  expect((await torrentsOn(pretender)).size).toBe(0);
});

it('is applied as soon as root gives the node the tag', async () => {
  configure(pretender, { tags: { role: 'web' } });
  await fleet.waitFor('it has applied it', async () => {
    // Again and again, as by the timer: an earlier pass may be at work yet, with the tags of before.
    expect(await reconcile(pretender)).toMatchObject({ status: 0, stderr: '' });
    return hasEvent(pretender, update, 'applied');
  });
  expect(isDelivered(pretender)).toBe(true);
});
