import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { computeInfoHash } from '../../lib/announcement/metainfo.ts';
import { parseAnnouncement } from '../../lib/announcement/update.ts';
import type { FleetNode } from '../support/fleet/fleet-node.ts';
import { type Fleet, startFleet } from '../support/fleet/fleet.ts';
import { eventsOf, hasEvent, outcomeOf, submit, type Submitted } from '../support/fleet/submit.ts';
import { callTransmission, configure } from '../support/fleet/wire.ts';

let fleet: Fleet;
let operator: FleetNode;

beforeAll(async () => {
  fleet = await startFleet({ nodes: 3, facts: 'collected' });
  const [first] = fleet.nodes;
  if (first === undefined) throw new Error('no node');
  operator = first;
});

afterAll(() => {
  fleet.stop();
});

const everywhere = (update: Submitted, decision: string): Promise<boolean> =>
  fleet.waitFor(`every node: ${decision} ${update.channel}@${update.version}`, () =>
    fleet.nodes.every((node) => hasEvent(node, update, decision)),
  );

function file(name: string, text: string): string {
  const path = join(fleet.directory, name);
  writeFileSync(path, text);
  return path;
}

describe('an update submitted on one node', () => {
  let update: Submitted;

  it('is downloaded and applied by every node, the submitter included', async () => {
    const target = "${settings::confdir}/applied-${facts['p2p_update_channel']}";
    const manifest = file('first.pp', `file { "${target}": content => 'one' }\n`);
    update = await submit(operator, manifest, '--channel', 'first');
    await everywhere(update, 'applied');
    for (const node of fleet.nodes) {
      const applied = join(node.config.puppet.confDir, 'applied-first');
      expect(readFileSync(applied, 'utf8')).toBe('one');
      expect(outcomeOf(node, update)).toMatchObject({
        state: 'APPLIED',
        run: { exitCode: 2, changed: 1, failed: 0 },
      });
    }
  });

  it('was submitted, as the submitter says, when its event was sent: before any node had accepted it', () => {
    for (const node of fleet.nodes) {
      const accepted = eventsOf(node, update).find(({ decision }) => decision === 'accept');
      const acceptedAt = Date.parse(accepted?.time ?? '');
      expect(acceptedAt).toBeGreaterThanOrEqual(Date.parse(update.submittedAt));
    }
  });

  it('reaches every node byte for byte', () => {
    for (const node of fleet.nodes) {
      const [name] = readdirSync(join(node.config.stateDir, 'announcements'));
      const record = readFileSync(join(node.config.stateDir, 'announcements', name ?? ''), 'utf8');
      expect(record).toContain(JSON.stringify(update.payload));
    }
  });

  it('leaves a .torrent on each node, named by channel and version, with its info hash', () => {
    for (const node of fleet.nodes) {
      const name = `first-${update.version}.torrent`;
      const metainfo = readFileSync(join(node.config.stateDir, 'torrents', name));
      const info = metainfo.subarray(metainfo.indexOf('4:info') + 6, -1);
      expect(createHash('sha1').update(info).digest('hex')).toBe(update.infoHash);
      expect(metainfo.includes('announce')).toBe(false);
    }
  });

  it('can be rebuilt from the announcement alone', () => {
    const { update: parsed } = parseAnnouncement(update.payload);
    expect(computeInfoHash({ ...parsed, sha256: update.sha256 })).toBe(update.infoHash);
  });

  it('goes on being seeded, by the submitter and by the others', async () => {
    for (const node of fleet.nodes) {
      const torrent = await torrentOn(node, update.infoHash);
      // 6 is seeding (docs/rpc-spec.md of Transmission).
      expect(torrent).toMatchObject({ percentDone: 1, status: 6 });
      const announced = { hasAnnounced: true, lastAnnounceSucceeded: true };
      expect(torrent).toMatchObject({ trackerStats: [announced] });
    }
  });

  it('is reported as complete by the hook, which logs its wake-up', async () => {
    for (const node of fleet.nodes) {
      const hook = await fleet.waitFor('the line of the hook', () =>
        node.events().find(({ handler }) => handler === 'transmission-done'),
      );
      expect(hook).toMatchObject({ decision: 'complete', reason: update.infoHash });
    }
  });

  it('goes through the states in order, each once in the log', async () => {
    for (const node of fleet.nodes.slice(1)) {
      await fleet.waitFor('complete', () => hasEvent(node, update, 'complete'));
      const decisions = eventsOf(node, update).map(({ decision }) => decision);
      // Advance and apply log on their own: the hook's mark may reach apply before advance.
      expect(decisions.toSorted()).toEqual(['accept', 'applied', 'complete', 'queued', 'staged']);
      expect(decisions.filter((decision) => decision !== 'complete')).toEqual([
        'accept',
        'queued',
        'staged',
        'applied',
      ]);
    }
  });
});

describe('versions', () => {
  it('never go back: older announcements are refused in every order of arrival', async () => {
    const sent: Submitted[] = [];
    for (const text of ['a', 'b', 'c'])
      sent.push(await submit(operator, file('order.bin', text), '--channel', 'order'));
    const newest = sent.at(-1);
    if (newest === undefined) throw new Error('nothing was sent');
    await everywhere(newest, 'applied');
    const other = fleet.nodes[1];
    for (const { payload } of [sent[1], sent[0], newest].flatMap((each) => each ?? []))
      await other?.serfCommand(['event', '-coalesce=false', 'update', payload]);
    await fleet.waitFor('every node has seen the old ones again', () =>
      fleet.nodes.every(
        (node) =>
          node
            .events()
            .filter((line) => line.channel === 'order' && /older|already/.test(line.reason))
            .length >= 3,
      ),
    );
    for (const node of fleet.nodes) {
      expect(readFileSync(join(node.config.deliveryDir, 'order.bin'), 'utf8')).toBe('c');
      expect(outcomeOf(node, newest)?.state).toBe('APPLIED');
      const applied = node.events().filter((line) => line.channel === 'order');
      expect(applied.filter((line) => line.decision === 'applied').at(-1)?.version).toBe(
        newest.version,
      );
    }
  });

  it('beyond those to keep lose torrent and data; a kept one that comes again is not downloaded', async () => {
    for (const node of fleet.nodes) configure(node, { keepVersions: 2 });
    const send = async (content: string): Promise<Submitted> => {
      const update = await submit(operator, file('drop.bin', content), '--channel', 'drop');
      await everywhere(update, 'applied');
      return update;
    };
    const isThere = async (node: FleetNode, { infoHash, sha256, name }: Submitted) => {
      const isOnDisk = existsSync(join(node.config.downloadDir, `${sha256.slice(0, 32)}-${name}`));
      return isOnDisk || (await torrentOn(node, infoHash)) !== undefined;
    };
    const [oldest, old] = [await send('a'), await send('b')];
    await send('c');
    const others = fleet.nodes.filter((node) => node !== operator);
    for (const node of others) {
      await fleet.waitFor('the oldest is gone', async () => {
        await node.script('reconcile', []);
        return !(await isThere(node, oldest));
      });
      expect(await isThere(node, old)).toBe(true);
    }
    const again = await send('b');
    expect(again.infoHash).toBe(old.infoHash);
    for (const node of others) expect(hasEvent(node, again, 'queued')).toBe(false);
    for (const node of fleet.nodes)
      expect(readFileSync(join(node.config.deliveryDir, 'drop.bin'), 'utf8')).toBe('b');
  });
});

describe('a restart of everything', () => {
  it('applies no update a second time', async () => {
    const count = (node: FleetNode): number =>
      node.events().filter(({ decision }) => decision === 'applied').length;
    const before = fleet.nodes.map(count);
    const all = (act: (node: FleetNode) => Promise<void>) => Promise.all(fleet.nodes.map(act));
    await all(async ({ serf, transmission }) => {
      await serf.end('SIGTERM');
      await transmission.end('SIGTERM');
    });
    await all(async ({ serf, transmission }) => {
      await transmission.start();
      await serf.start();
    });
    await fleet.waitFor('the fleet is back', async () => {
      const alive = await Promise.all(fleet.nodes.map((node) => node.aliveMembers()));
      return alive.every((members) => members.length === 3);
    });
    await all(async (node) => {
      const { status, stderr } = await node.script('reconcile', []);
      expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    });
    expect(fleet.nodes.map(count)).toEqual(before);
    const next = await submit(operator, file('after.bin', 'after'), '--channel', 'after');
    await everywhere(next, 'applied');
  });
});

/** A torrent as the daemon of a node reports it; undefined when it has none. */
async function torrentOn(node: FleetNode, infoHash: string): Promise<object | undefined> {
  const fields = ['percentDone', 'status', 'trackerStats'];
  const args = { ids: [infoHash], fields };
  const { torrents } = await callTransmission(node, 'torrent-get', args);
  return (torrents as object[])[0];
}
