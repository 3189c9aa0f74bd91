import { existsSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { Announcement } from '../../../../lib/announcement/fields.ts';
import { contentFileName } from '../../../../lib/announcement/metainfo.ts';
import type { Torrent } from '../../../../lib/daemons/transmission/torrent.ts';
import { advance } from '../../../../lib/reconciler/advance/advance.ts';
import { askReseed } from '../../../../lib/reconciler/advance/ask-reseed.ts';
import { isReseedDue } from '../../../../lib/reconciler/advance/reseed.ts';
import { answerRequest, parseRequest } from '../../../../lib/query/latest.ts';
import { listReseeds } from '../../../../lib/state/facts.ts';
import { reseedsDir } from '../../../../lib/state/layout.ts';
import type { LoggedEvent } from '../../../../lib/system/event-log.ts';
import { makeApplySide } from '../../../support/fleet/apply-side.ts';
import { MemoryTransmission, noAnnounces } from '../../../support/fleet/memory-transmission.ts';
import { announcementOf } from '../../../support/fleet/wire.ts';
import { temporaryDirectory } from '../../../support/run/temporary.ts';

const now = 1_900_000_000;
const infoHash = 'a'.repeat(40);
const request = { infoHash, requestedAt: now - 1 };

const seeding: Torrent = {
  infoHash,
  name: 'x',
  status: 'seeding',
  percentDone: 1,
  hasMetadata: true,
  totalSize: 5_000_000,
  pieceLength: 16_384,
  downloadDir: '/d',
  files: [],
  error: '',
  peersConnected: 1,
  ...{ rateDownload: 0, rateUpload: 0 },
  ...{ activeAt: now - 60, addedAt: now - 60, uploadedEver: 0 },
  trackers: [],
};

describe('isReseedDue', () => {
  it.each<[string, Torrent | undefined, boolean]>([
    ['follows a request while nobody is served', seeding, true],
    ['leaves a torrent alone that is uploading', { ...seeding, rateUpload: 1 }, false],
    ['leaves a torrent alone that uploaded a moment ago', { ...seeding, activeAt: now - 2 }, false],
    ['leaves a torrent alone that was added a moment ago', { ...seeding, addedAt: now - 5 }, false],
    [
      'gives a large content a tenth of the time for its check',
      { ...seeding, totalSize: 1e9 },
      false,
    ],
    ['leaves an incomplete torrent alone', { ...seeding, percentDone: 0.9 }, false],
    ['leaves a torrent alone that is being checked', { ...seeding, status: 'checking' }, false],
    ['goes on where it was killed after it took the torrent out', undefined, true],
  ])('%s', (_, torrent, expected) => {
    expect(isReseedDue(request, torrent, true, now)).toBe(expected);
  });

  it('drops a request whose content is gone, and one of another time', () => {
    expect(isReseedDue(request, undefined, false, now)).toBe(false);
    for (const requestedAt of [now - 601, now + 601])
      expect(isReseedDue({ infoHash, requestedAt }, seeding, true, now)).toBe(false);
  });
});

describe('a request to add a torrent anew', () => {
  const bytes = Buffer.from('the content');

  /** A node that seeds one applied update; `pass` runs advance, and returns what it logged. */
  async function makeSeed(change: Partial<Announcement> = {}) {
    const side = makeApplySide(temporaryDirectory());
    const { config } = side;
    const announcement = announcementOf(bytes, { channel: 'web', name: 'f.bin', ...change });
    const update = side.receive(announcement, bytes);
    const name = contentFileName({ sha256: update.sha256 ?? '', name: update.name });
    const swarm = new Map([[update.infoHash, { name, pieceLength: update.pieceLength, bytes }]]);
    const daemon = new MemoryTransmission(swarm, config.downloadDir);
    const calls: string[] = [];
    const client = daemon.connect();
    const transmission = {
      ...client,
      add: (torrent: Parameters<typeof client.add>[0]) => {
        calls.push('metainfo' in torrent ? 'add by metainfo' : 'add by magnet');
        return client.add(torrent);
      },
      remove: (hash: string, options: { deleteData: boolean }) => {
        calls.push(options.deleteData ? 'remove with data' : 'remove');
        return client.remove(hash, options);
      },
    };
    const pass = async (): Promise<Omit<LoggedEvent, 'handler'>[]> => {
      const lines: Omit<LoggedEvent, 'handler'>[] = [];
      const tasks = await advance(config, {
        ...noAnnounces(),
        transmission,
        nowSeconds: () => Math.floor(Date.now() / 1000),
        buildTime: 0,
        log: (line) => lines.push(line),
        warn: () => undefined,
        hooks: [],
      });
      await Promise.all(tasks);
      return lines;
    };
    await pass();
    daemon.download();
    await pass();
    calls.length = 0;
    const ask = (hash: string) => answerRequest(parseRequest(`reseed ${hash}`), config, now);
    return { config, update, name, calls, pass, ask };
  }

  it('is taken by a node that has the content, which takes the torrent out and in with its data kept', async () => {
    const { config, update, name, calls, pass, ask } = await makeSeed();
    expect(await ask(update.infoHash)).toBe('yes');
    expect(listReseeds(config.stateDir)).toMatchObject([{ infoHash: update.infoHash }]);
    const lines = await pass();
    expect(calls).toEqual(['remove', 'add by metainfo']);
    expect(lines).toContainEqual(
      expect.objectContaining({ decision: 'reseed', channel: 'web', version: update.version }),
    );
    expect(existsSync(join(config.downloadDir, name))).toBe(true);
    expect(listReseeds(config.stateDir)).toEqual([]);
  });

  it('is refused for a torrent that the node does not have, and leaves nothing', async () => {
    const { config, ask } = await makeSeed();
    expect(await ask(infoHash)).toBe('no');
    expect(listReseeds(config.stateDir)).toEqual([]);
  });

  it('is dropped where the metainfo would have to come from the peers that ask', async () => {
    const { config, update, calls, pass, ask } = await makeSeed({
      infoHash,
      pieces: Buffer.alloc(0),
    });
    expect(await ask(update.infoHash)).toBe('yes');
    await pass();
    expect(calls).toEqual([]);
    expect(listReseeds(config.stateDir)).toEqual([]);
  });

  it('is dropped when it is old, and names that are no info hash are left alone', async () => {
    const { config, update, calls, pass, ask } = await makeSeed();
    await ask(update.infoHash);
    const past = new Date(Date.now() - 3_600_000);
    utimesSync(join(reseedsDir(config.stateDir), update.infoHash), past, past);
    writeFileSync(join(reseedsDir(config.stateDir), 'else'), '');
    await pass();
    expect(calls).toEqual([]);
    expect(listReseeds(config.stateDir)).toEqual([]);
  });
});

describe('askReseed', () => {
  const member = (name: string, address: string) =>
    ({ name, address, port: 7946, tags: {}, status: 'alive' }) as const;
  const members = [
    member('n1', '10.0.0.1'),
    member('n2', '10.0.0.2'),
    member('n3', '10.0.0.3'),
    member('n4', '10.0.0.4'),
  ];

  /** Asks as n1; `answers` has the response of each member that gives one. */
  async function ask(seeds: readonly string[], answers: Record<string, string>) {
    const asked: string[] = [];
    const serf = {
      members: () => Promise.resolve([...members]),
      selfName: () => Promise.resolve('n1'),
      query(_: string, payload: string, __: number, nodes: readonly string[] = []) {
        expect(payload).toBe(`reseed ${infoHash}`);
        asked.push(...nodes);
        const [name = ''] = nodes;
        const answer = answers[name];
        return Promise.resolve(new Map(answer === undefined ? [] : [[name, answer]]));
      },
    };
    await askReseed(serf, infoHash, seeds, () => undefined);
    return asked;
  }

  it('asks seeds alone, one after another until one has the content', async () => {
    expect(await ask(['10.0.0.2'], { n2: 'yes\n' })).toEqual(['n2']);
    const asked = await ask(['10.0.0.1', '10.0.0.2', '10.0.0.3'], { n3: 'yes' });
    expect(asked.at(-1)).toBe('n3');
    expect(asked).not.toContain('n4');
    expect((await ask(['10.0.0.2', '10.0.0.3', '10.0.0.4'], { n2: 'no' })).sort()).toEqual([
      'n2',
      'n3',
      'n4',
    ]);
  });
});
