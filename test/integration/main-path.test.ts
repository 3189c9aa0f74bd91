import { createHash, randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { computeInfoHash } from '../../lib/metainfo.ts';
import { parseAnnouncement } from '../../lib/update.ts';
import { startFleet, type Fleet } from '../support/fleet.ts';
import type { FleetNode } from '../support/fleet-node.ts';
import { moduleTarball } from '../support/module.ts';
import { eventsOf, hasEvent, outcomeOf, submit, type Submitted } from '../support/submit.ts';

let fleet: Fleet;
let operator: FleetNode;

beforeAll(async () => {
  fleet = await startFleet({ nodes: 3 });
  const [first] = fleet.nodes;
  if (first === undefined) throw new Error('no node');
  operator = first;
});

afterAll(() => {
  fleet.stop();
});

const everywhere = (update: Submitted, decision: string, timeoutMs = 60_000): Promise<boolean> =>
  fleet.waitFor(
    `every node: ${decision} ${update.channel}@${update.version}`,
    () => fleet.nodes.every((node) => hasEvent(node, update, decision)),
    timeoutMs,
  );

/** A manifest that writes `text` to a file of each node's own, below its confdir. */
function manifest(name: string, text: string): string {
  const file = join(fleet.directory, name);
  const target = "${settings::confdir}/applied-${facts['p2p_update_channel']}";
  writeFileSync(file, `file { "${target}": content => "${text}" }\n`);
  return file;
}

const appliedText = (node: FleetNode, channel: string): string =>
  readFileSync(join(node.config.puppet.confDir, `applied-${channel}`), 'utf8');

describe('an update submitted on one node', () => {
  let update: Submitted;

  it('is downloaded and applied by every node, the submitter included', async () => {
    update = await submit(operator, manifest('first.pp', 'one'), '--channel', 'first');
    await everywhere(update, 'applied');
    for (const node of fleet.nodes) {
      expect(appliedText(node, 'first')).toBe('one');
      expect(outcomeOf(node, update)).toMatchObject({
        state: 'APPLIED',
        run: { exitCode: 2, changed: 1, failed: 0 },
      });
    }
  });

  it('reaches every node byte for byte', () => {
    for (const node of fleet.nodes) {
      const [file] = readdirSync(join(node.config.stateDir, 'announcements'));
      const record = readFileSync(join(node.config.stateDir, 'announcements', file ?? ''), 'utf8');
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
      expect(torrent).toMatchObject({ percentDone: 1, status: 'seeding', trackers: [] });
    }
  });

  it('was noticed to be complete by the hook, which logged its wake-up', () => {
    for (const node of fleet.nodes) {
      const hook = node.events().find(({ handler }) => handler === 'transmission-done');
      expect(hook).toMatchObject({ decision: 'complete', reason: update.infoHash });
    }
  });

  it('goes through the states in order, each once in the log', () => {
    for (const node of fleet.nodes.slice(1)) {
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
  it('never go back: older announcements are refused, in whichever order they come', async () => {
    const sent: Submitted[] = [];
    for (const text of ['a', 'b', 'c'])
      sent.push(await submit(operator, manifest('order.pp', text), '--channel', 'order'));
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
      expect(appliedText(node, 'order')).toBe('c');
      expect(outcomeOf(node, newest)?.state).toBe('APPLIED');
      const applied = node.events().filter((line) => line.channel === 'order');
      expect(applied.filter((line) => line.decision === 'applied').at(-1)?.version).toBe(
        newest.version,
      );
    }
  });

  it('of a superseded update lose their torrent and its data', async () => {
    const old = await submit(operator, manifest('drop.pp', 'old'), '--channel', 'drop');
    await everywhere(old, 'applied');
    const newer = await submit(operator, manifest('drop.pp', 'new'), '--channel', 'drop');
    await everywhere(newer, 'applied');
    for (const node of fleet.nodes) {
      expect(await torrentOn(node, old.infoHash)).toBeUndefined();
      const file = join(node.config.downloadDir, `${old.sha256.slice(0, 32)}-${old.name}`);
      expect(existsSync(file)).toBe(false);
    }
  });
});

describe('each kind of update', () => {
  it('a module, then a manifest that uses it; the changed module takes effect', async () => {
    const use = join(fleet.directory, 'use.pp');
    writeFileSync(use, 'include hello\n');
    const one = await submit(operator, moduleTarball(fleet.directory, 'hello one'));
    expect(one.channel).toBe('acme-hello');
    const first = await submit(operator, use, '--channel', 'use');
    await everywhere(one, 'applied');
    await everywhere(first, 'applied');
    const read = (node: FleetNode): string =>
      readFileSync(join(node.config.puppet.confDir, 'hello'), 'utf8');
    expect(fleet.nodes.map(read)).toEqual(Array(3).fill('hello one'));

    const two = await submit(operator, moduleTarball(fleet.directory, 'hello two'));
    await everywhere(two, 'applied');
    const again = await submit(operator, use, '--channel', 'use', '--rerun');
    await everywhere(again, 'applied');
    expect(fleet.nodes.map(read)).toEqual(Array(3).fill('hello two'));
  });

  it('a directory with a module of its own and Hiera data', async () => {
    const environment = join(fleet.directory, 'an environment');
    const write = (path: string, text: string): void => {
      mkdirSync(join(environment, path, '..'), { recursive: true });
      writeFileSync(join(environment, path), text);
    };
    write('manifests/site.pp', 'include greeting\n');
    write(
      'modules/greeting/manifests/init.pp',
      'class greeting { file { "${settings::confdir}/greeting": content => lookup("word") } }\n',
    );
    write('hiera.yaml', 'version: 5\nhierarchy:\n  - name: all\n    path: common.yaml\n');
    write('data/common.yaml', 'word: from hiera\n');
    const update = await submit(operator, environment, '--channel', 'env', '--name', 'env.tar.gz');
    await everywhere(update, 'applied');
    for (const node of fleet.nodes)
      expect(readFileSync(join(node.config.puppet.confDir, 'greeting'), 'utf8')).toBe('from hiera');
  });

  it.each([
    ['1 KiB', 2 ** 10, 'in'],
    ['5 MiB', 5 * 2 ** 20, 'in'],
    ['128 MiB', 128 * 2 ** 20, 'magnet'],
  ])('a plain file of %s, through one event', async (label, size, pieces) => {
    const file = join(fleet.directory, `${label.replace(' ', '-')}.bin`);
    // One random MiB, repeated with a counter: quick to make, and no two pieces alike.
    const block = randomBytes(Math.min(size, 2 ** 20));
    const content = Buffer.alloc(size);
    for (let offset = 0; offset < size; offset += block.length) {
      block.writeUInt32BE(offset);
      block.copy(content, offset);
    }
    writeFileSync(file, content);
    const update = await submit(operator, file, '--channel', 'sizes');
    expect(update.pieces).toBe(pieces);
    expect(update.bytesUsed).toBeLessThanOrEqual(351);
    await everywhere(update, 'applied', 110_000);
    const digest = createHash('sha256').update(content).digest('hex');
    expect(update.sha256).toBe(digest);
    for (const node of fleet.nodes) {
      const delivered = readFileSync(join(node.config.deliveryDir, update.name));
      expect(createHash('sha256').update(delivered).digest('hex')).toBe(digest);
      const woken = eventsOf(node, update).filter(({ handler }) => handler === 'update');
      expect(woken).toHaveLength(1);
      const torrent = join(node.config.stateDir, 'torrents', `sizes-${update.version}.torrent`);
      await fleet.waitFor('the .torrent is kept', () => existsSync(torrent));
    }
  });
});

describe('a restart of everything', () => {
  it('applies nothing a second time', async () => {
    const count = (node: FleetNode): number =>
      node.events().filter(({ decision }) => decision === 'applied').length;
    const before = fleet.nodes.map(count);
    for (const node of fleet.nodes) {
      await node.serf.end('SIGTERM');
      await node.transmission.end('SIGTERM');
    }
    for (const node of fleet.nodes) {
      await node.transmission.start();
      await node.serf.start();
    }
    await fleet.waitFor('the fleet is back', async () => {
      const alive = await Promise.all(fleet.nodes.map((node) => node.aliveMembers()));
      return alive.every((members) => members.length === 3);
    });
    for (const node of fleet.nodes) {
      const { status, stderr } = await node.run([
        join(import.meta.dirname, '../../dist/scripts/reconcile.cjs'),
      ]);
      expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    }
    expect(fleet.nodes.map(count)).toEqual(before);
    const next = await submit(operator, manifest('after.pp', 'after'), '--channel', 'after');
    await everywhere(next, 'applied');
  });
});

interface RawTorrent {
  percentDone: number;
  status: string;
  trackers: unknown[];
}

/** What a node's daemon says of a torrent, asked on the node itself. */
async function torrentOn(node: FleetNode, infoHash: string): Promise<RawTorrent | undefined> {
  const script = `
    const { connectTransmission } = await import('./lib/transmission.ts');
    const { loadConfig } = await import('./lib/config.ts');
    const { transmission } = loadConfig(process.env);
    const client = connectTransmission({ ...transmission, timeoutMs: 5000 });
    console.log(JSON.stringify(await client.get('${infoHash}') ?? null));`;
  const { stdout, stderr } = await node.run([
    'node',
    '--import',
    'tsx',
    '--input-type=module',
    '-e',
    script,
  ]);
  expect(stderr).toBe('');
  return (JSON.parse(stdout) as RawTorrent | null) ?? undefined;
}
