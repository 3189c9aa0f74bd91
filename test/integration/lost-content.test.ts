import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { updatesDir } from '../../lib/state/layout.ts';
import { readProgress } from '../../lib/state/progress.ts';
import type { FleetNode } from '../support/fleet/fleet-node.ts';
import { type Fleet, startFleet } from '../support/fleet/fleet.ts';
import { prepareRollBack } from '../support/fleet/roll-back.ts';
import { hasEvent, submit, type Submitted } from '../support/fleet/submit.ts';
import { callTransmission, configure, torrentsOn } from '../support/fleet/wire.ts';
import { repository } from '../support/run/repository.ts';

/** Time within which content comes again after a reconcile on the node that has lost it. */
const wholeAgainMs = 60_000;
/** Transmission tells its peers of new pieces in batches, up to 10 s late. */
const seenMs = 30_000;

let fleet: Fleet;
let operator: FleetNode;
let other: FleetNode;
let third: FleetNode;

const reconcile = [join(repository, 'dist/p2p-update.cjs'), 'reconcile'];

beforeAll(async () => {
  fleet = await startFleet({ nodes: 3 });
  [operator, other, third] = fleet.nodes as [FleetNode, FleetNode, FleetNode];
});

afterAll(() => {
  // That of the full disk; busy as long as its daemon runs.
  spawnSync('umount', ['--lazy', other.config.downloadDir]);
  fleet.stop();
});

/** Waits until a node's daemon has seen another node complete: from then on 3.00 takes it for a seed for good. */
function hasSeenComplete(node: FleetNode, peer: FleetNode, { infoHash }: Submitted) {
  const fields = ['peers'];
  return fleet.waitFor(
    `${node.name} has seen ${peer.name} complete`,
    async () => {
      const reply = await callTransmission(node, 'torrent-get', { ids: [infoHash], fields });
      const [torrent] = reply['torrents'] as { peers: { address: string; progress: number }[] }[];
      return torrent?.peers.some((each) => each.address === peer.address && each.progress === 1);
    },
    seenMs,
  );
}

describe('content that a node had and lost, with a seed that has seen it complete', () => {
  let content: Buffer;
  let copy: string;
  const isWhole = (): boolean => {
    try {
      return readFileSync(copy).equals(content);
    } catch {
      return false;
    }
  };

  beforeAll(async () => {
    content = randomBytes(5_000_000);
    const file = join(fleet.directory, 'five.bin');
    writeFileSync(file, content);
    const update = await submit(operator, file, '--channel', 'five');
    await hasSeenComplete(operator, other, update);
    await fleet.waitFor('both nodes have applied it', () =>
      fleet.nodes.every((node) => hasEvent(node, update, 'applied')),
    );
    const name = readdirSync(other.config.downloadDir).find((each) => each.endsWith('-five.bin'));
    copy = join(other.config.downloadDir, name ?? '');
    expect(isWhole()).toBe(true);
  });

  it.each([
    [
      'deleted',
      () => {
        rmSync(copy);
      },
    ],
    [
      'cut',
      () => {
        truncateSync(copy, 2_000_000);
      },
    ],
  ])('comes again once it is %s', async (_, lose) => {
    lose();
    expect(isWhole()).toBe(false);
    await other.run(reconcile);
    await fleet.waitFor('it is whole again', isWhole, wholeAgainMs);
  });
});

describe('a roll-back by hand, whose sender is no target', () => {
  it('is applied everywhere, and downloaded nowhere again', async () => {
    const targets = [other, third];
    const downloaded = async (node: FleetNode, { infoHash }: Submitted): Promise<number> => {
      const request = { ids: [infoHash], fields: ['downloadedEver'] };
      const { torrents } = await callTransmission(node, 'torrent-get', request);
      return (torrents as { downloadedEver: number }[])[0]?.downloadedEver ?? NaN;
    };
    const { file, first, goBack } = await prepareRollBack(fleet, targets, 3_000_000, wholeAgainMs);
    const before = await Promise.all(targets.map((node) => downloaded(node, first)));
    expect(Math.min(...before)).toBeGreaterThan(0);
    await goBack();
    expect(await Promise.all(targets.map((node) => downloaded(node, first)))).toEqual(before);
    for (const { config } of targets)
      expect(readFileSync(join(config.deliveryDir, 'a.bin')).equals(readFileSync(file))).toBe(true);
  });
});

describe('a disk that fills up during the download', () => {
  it('is the reason that the node gives, which goes on once there is space', async () => {
    const { downloadDir, stateDir } = other.config;
    const mount = ['mount', '-t', 'tmpfs', '-o', 'size=24m', 'tmpfs', downloadDir];
    await other.transmission.end('SIGTERM');
    expect(spawnSync(mount[0] ?? '', mount.slice(1)).status).toBe(0);
    await other.transmission.start();
    const limit = { 'speed-limit-down': 400, 'speed-limit-down-enabled': true };
    await callTransmission(other, 'session-set', limit);
    const file = join(fleet.directory, 'full.bin');
    writeFileSync(file, randomBytes(3_000_000));
    const update = await submit(operator, file, '--channel', 'full');
    const doneOn = async (node: FleetNode): Promise<number> =>
      (await torrentsOn(node)).get(update.infoHash)?.percentDone ?? 0;
    await fleet.waitFor('some of it has come', async () => (await doneOn(other)) > 0);
    const filler = join(downloadDir, 'filler');
    spawnSync('dd', ['if=/dev/zero', `of=${filler}`, 'bs=64k', 'status=none']);
    const reason = (): string => readProgress(updatesDir(stateDir), update)?.reason ?? '';
    await fleet.waitFor('its reason is the full disk', async () => {
      await other.run(reconcile);
      return /No space left on device|bytes free, \d+ are needed/.test(reason());
    });
    expect(readProgress(updatesDir(stateDir), update)?.state).toBe('STALLED');
    await callTransmission(other, 'session-set', { 'speed-limit-down-enabled': false });
    rmSync(filler);
    await other.run(reconcile);
    await fleet.waitFor('it is applied', () => hasEvent(other, update, 'applied'), wholeAgainMs);
  });
});

describe('a daemon that accepts connections and never answers', () => {
  it('is named by each run by hand, and is the reason of the update that waits for it', async () => {
    const { transmission, stateDir } = other.config;
    configure(other, { transmission: { ...transmission, timeoutSeconds: 2 } });
    other.transmission.signal('SIGSTOP');
    const file = join(fleet.directory, 'hang.bin');
    writeFileSync(file, 'hang');
    const update = await submit(operator, file, '--channel', 'hang');
    await fleet.waitFor('it is accepted', () => hasEvent(other, update, 'accept'));
    const runs = await Promise.all([1, 2].map(() => other.run(reconcile)));
    for (const { status, stderr } of runs) {
      expect(status).toBe(69);
      expect(stderr).toMatch(/^reconcile: error: Transmission at .+: no answer within 2 s/);
    }
    expect(readProgress(updatesDir(stateDir), update)).toMatchObject({
      state: 'ACCEPTED',
      reason: expect.stringMatching(/no answer within 2 s/) as string,
    });
    other.transmission.signal('SIGCONT');
    await other.run(reconcile);
    await fleet.waitFor('it is applied', () => hasEvent(other, update, 'applied'));
  });
});
