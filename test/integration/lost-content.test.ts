import { randomBytes } from 'node:crypto';
import { readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { FleetNode } from '../support/fleet/fleet-node.ts';
import { type Fleet, startFleet } from '../support/fleet/fleet.ts';
import { hasEvent, submit, type Submitted } from '../support/fleet/submit.ts';
import { callTransmission } from '../support/fleet/wire.ts';
import { repository } from '../support/run/repository.ts';

/** Time within which content comes again after a reconcile on the node that has lost it. */
const wholeAgainMs = 60_000;
/** Transmission tells its peers of new pieces in batches, up to 10 s late. */
const seenMs = 30_000;

let fleet: Fleet;
let operator: FleetNode;
let other: FleetNode;

const reconcile = [join(repository, 'dist/p2p-update.cjs'), 'reconcile'];

beforeAll(async () => {
  fleet = await startFleet({ nodes: 2 });
  [operator, other] = fleet.nodes as [FleetNode, FleetNode];
});

afterAll(() => {
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
