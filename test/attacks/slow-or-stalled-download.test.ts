import { randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Announcement } from '../../lib/announcement/fields.ts';
import { updatesDir } from '../../lib/state/layout.ts';
import { readProgress } from '../../lib/state/progress.ts';
import { signAnnouncement } from '../support/fleet/announce.ts';
import type { FleetNode } from '../support/fleet/fleet-node.ts';
import { type Fleet, startFleet } from '../support/fleet/fleet.ts';
import { eventsOf, hasEvent } from '../support/fleet/submit.ts';
import {
  announcementOf,
  callTransmission,
  seed,
  sendEvent,
  torrentsOn,
} from '../support/fleet/wire.ts';
import { repository } from '../support/run/repository.ts';

let fleet: Fleet;
let seeder: FleetNode;
let node: FleetNode;

beforeAll(async () => {
  fleet = await startFleet({ nodes: 2 });
  [seeder, node] = fleet.nodes as [FleetNode, FleetNode];
});

afterAll(() => {
  fleet.stop();
});

const send = (update: Announcement): Promise<void> =>
  sendEvent(seeder, signAnnouncement(update, fleet.keys));

const stateOf = (update: Announcement) =>
  readProgress(updatesDir(node.config.stateDir), update)?.state;

const slowContent = randomBytes(2 ** 22);
const slow = announcementOf(slowContent, { channel: 'slow', name: 'slow.bin' });
/** Updates that no peer has: some with their pieces, some by magnet. */
const stalled = Array.from({ length: 5 }, (_, i) => {
  const update = announcementOf(randomBytes(1000), {
    channel: `stalled-${i}`,
  });
  return i % 2 === 0 ? update : { ...update, pieces: new Uint8Array() };
});

it('a node begins a download from a throttled seeder, and five that no peer has', async () => {
  await seed(seeder, slow, slowContent);
  const throttle = { ids: [slow.infoHash], uploadLimited: true, uploadLimit: 8 };
  await callTransmission(seeder, 'torrent-set', throttle);
  for (const update of [slow, ...stalled]) await send(update);
  await fleet.waitFor('Transmission has all six', async () => (await torrentsOn(node)).size === 6);
  const hasBegun = async (): Promise<boolean> => {
    const torrent = (await torrentsOn(node)).get(slow.infoHash);
    return torrent !== undefined && torrent.rateDownload > 0;
  };
  // Six torrents that call the same peer at once are put off by it, some for a while.
  await fleet.waitFor('the slow one has begun', hasBegun);
  for (const update of [slow, ...stalled])
    await fleet.waitFor('it is recorded', () => stateOf(update) === 'QUEUED');
});

it('after a minute it shows the five as STALLED, and the slow one not', async () => {
  const clock = join(fleet.directory, 'clock.cjs');
  // Of the node, and of the daemon, which would otherwise have been started after all this.
  writeFileSync(
    clock,
    `const { now } = Date;
     const { parse } = JSON;
     Date.now = () => now() + 61_000;
     JSON.parse = (text) => {
       const value = parse(text);
       const stats = value?.arguments?.['current-stats'];
       if (stats !== undefined) stats.secondsActive += 61;
       return value;
     };`,
  );
  const reconciler = [join(repository, 'dist/p2p-update.cjs'), 'reconcile', '--no-wait'];
  // It would stay to look for peers; what it found is recorded at once. Another one may be at work.
  const reconcile = (): void => void node.run(['node', '--require', clock, ...reconciler]);
  reconcile();
  const timer = setInterval(reconcile, 3000);
  await fleet
    .waitFor('all five are stalled', () => stalled.every((update) => stateOf(update) === 'STALLED'))
    .finally(() => {
      clearInterval(timer);
    });
  const isTold = (update: Announcement): boolean =>
    eventsOf(node, update).some(
      ({ decision, reason }) => decision === 'stalled' && reason === 'nothing came for a minute',
    );
  await fleet.waitFor('the log says so, too', () => stalled.every(isTold));
  expect(stateOf(slow)).toBe('QUEUED');
});

/** Announces content that the seeder has, and expects it to be applied in spite of the six. */
async function expectApplied(change: Partial<Announcement>): Promise<Announcement> {
  const content = randomBytes(1000);
  const update = announcementOf(content, change);
  await seed(seeder, update, content);
  await send(update);
  await fleet.waitFor('it is applied', () => hasEvent(node, update, 'applied'));
  const delivered = join(node.config.deliveryDir, update.name);
  expect(readFileSync(delivered)).toEqual(content);
  return update;
}

/** Superseded, taken out with its data, and past. */
async function isForgotten(update: Announcement): Promise<void> {
  await fleet.waitFor(
    'it is superseded, and its record is gone',
    () => hasEvent(node, update, 'superseded') && stateOf(update) === undefined,
  );
}

it('it still accepts another update, and applies it at once', async () => {
  await expectApplied({ channel: 'other', name: 'other.bin' });
  expect(stateOf(slow)).toBe('QUEUED');
});

it('it accepts a newer version of the slow one, applies it at once, and drops the older', async () => {
  await expectApplied({ channel: 'slow', name: 'newer.bin', version: slow.version + 1 });
  await isForgotten(slow);
  expect([...(await torrentsOn(node)).keys()]).not.toContain(slow.infoHash);
});

it('it does so for a newer version of a stalled one, and the others wait on', async () => {
  const [first, ...others] = stalled as [Announcement, ...Announcement[]];
  const { channel, version } = first;
  await expectApplied({ channel, name: 'found.bin', version: version + 1 });
  await isForgotten(first);
  const torrents = await torrentsOn(node);
  expect([...torrents.keys()]).not.toContain(first.infoHash);
  for (const update of others) {
    expect(torrents.get(update.infoHash)).toMatchObject({ percentDone: 0 });
    expect(['STALLED', 'QUEUED']).toContain(stateOf(update));
  }
});
