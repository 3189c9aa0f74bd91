import { createHash, randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Announcement } from '../../lib/announcement/fields.ts';
import { contentFileName, wrapInfo } from '../../lib/announcement/metainfo.ts';
import { updatesDir } from '../../lib/state/layout.ts';
import { readProgress } from '../../lib/state/progress.ts';
import { signAnnouncement } from '../support/fleet/announce.ts';
import type { FleetNode } from '../support/fleet/fleet-node.ts';
import { type Fleet, startFleet } from '../support/fleet/fleet.ts';
import { makeLoneNode } from '../support/fleet/lone-node.ts';
import { eventsOf, hasEvent, outcomeOf } from '../support/fleet/submit.ts';
import {
  addTorrent,
  announcementOf,
  configure,
  seed,
  sendEvent,
  torrentsOn,
} from '../support/fleet/wire.ts';
import { type CommandResult, mustRun, runSync } from '../support/run/command.ts';
import { repository } from '../support/run/repository.ts';
import { readState } from '../support/run/state.ts';

let fleet: Fleet;
let liar: FleetNode;
let node: FleetNode;
/** A file system of a quarter of a MiB. */
let smallDisk: string;

beforeAll(async () => {
  // With the trigger spool a node does something when the test runs the reconciler, and only then.
  fleet = await startFleet({ nodes: 2, transmission: false, config: { trigger: 'spool' } });
  [liar, node] = fleet.nodes as [FleetNode, FleetNode];
  smallDisk = join(node.directory, 'small');
  mkdirSync(smallDisk);
  // The daemon's mount namespace is made when it starts.
  mustRun(['mount', '-t', 'tmpfs', '-o', 'size=256k', 'tmpfs', smallDisk]);
  await Promise.all([liar.transmission.start(), node.transmission.start()]);
});

afterAll(() => {
  runSync(['umount', smallDisk]);
  fleet.stop();
});

const reconcile = (): Promise<CommandResult> =>
  node.run([join(repository, 'dist/p2p-update.cjs'), 'reconcile', '--no-wait']);

const stateOf = (update: Announcement) =>
  readProgress(updatesDir(node.config.stateDir), update)?.state;

/** Sends an announcement, and waits until the node has accepted it. */
async function send(update: Announcement): Promise<void> {
  await sendEvent(liar, signAnnouncement(update, fleet.keys));
  await fleet.waitFor('it is accepted', () => hasEvent(node, update, 'accept'));
}

describe('metadata that differs from the announcement', () => {
  const content = randomBytes(100_000);
  const pieceLength = 2 ** 20;
  const sha1 = (bytes: Uint8Array): Buffer => createHash('sha1').update(bytes).digest();
  const text = (value: string | Uint8Array): Buffer =>
    Buffer.concat([Buffer.from(`${value.length}:`), Buffer.from(value)]);
  const info = (fields: [string, number | string | Uint8Array | Buffer[]][]): Buffer =>
    Buffer.concat([
      Buffer.from('d'),
      ...fields.flatMap(([key, value]) => [
        text(key),
        typeof value === 'number'
          ? Buffer.from(`i${value}e`)
          : Array.isArray(value)
            ? Buffer.concat([Buffer.from('l'), ...value, Buffer.from('e')])
            : text(value),
      ]),
      Buffer.from('e'),
    ]);

  const lies: [what: string, make: (name: string) => Buffer, reason: RegExp][] = [
    [
      '1 TiB',
      (name) =>
        info([
          ['length', 2 ** 40],
          ['name', name],
          ['piece length', 2 ** 31],
          ['pieces', randomBytes(20 * 2 ** 9)],
        ]),
      /says 1099511627776 bytes/,
    ],
    [
      'another size',
      (name) =>
        info([
          ['length', content.length - 1],
          ['name', name],
          ['piece length', pieceLength],
          ['pieces', sha1(content.subarray(1))],
        ]),
      /says 99999 bytes, the announcement 100000/,
    ],
    [
      'another name',
      (name) =>
        info([
          ['length', content.length],
          ['name', `x${name}`],
          ['piece length', pieceLength],
          ['pieces', sha1(content)],
        ]),
      /names other files/,
    ],
    [
      // Ten MiB of metadata, more than a magnet link gets in a test.
      '1 PiB',
      (name) =>
        info([
          ['length', 2 ** 50],
          ['name', name],
          ['piece length', 2 ** 31],
          ['pieces', Buffer.alloc(20 * 2 ** 19, 7)],
        ]),
      /says 1125899906842624 bytes/,
    ],
    [
      'another piece length',
      (name) =>
        info([
          ['length', content.length],
          ['name', name],
          ['piece length', 2 ** 17],
          ['pieces', sha1(content)],
        ]),
      /pieces of 131072 bytes/,
    ],
    [
      'more files',
      (name) =>
        info([
          ['files', [99_000, 1000].map((length, i) => filesEntry(length, `${i}`))],
          ['name', name],
          ['piece length', pieceLength],
          ['pieces', sha1(content)],
        ]),
      /names other files/,
    ],
    [
      'a directory with one file',
      (name) =>
        info([
          ['files', [filesEntry(content.length, 'x')]],
          ['name', name],
          ['piece length', pieceLength],
          ['pieces', sha1(content)],
        ]),
      /names other files/,
    ],
  ];
  const filesEntry = (length: number, name: string): Buffer =>
    Buffer.concat([Buffer.from(`d6:lengthi${length}e4:pathl`), text(name), Buffer.from('ee')]);

  /** An announcement that is signed with the info hash of a lie, and sent as a magnet link. */
  function lieAbout(channel: string, make: (name: string) => Buffer): [Announcement, Buffer] {
    const honest = announcementOf(content, { channel, name: `${channel}.bin` });
    const dictionary = make(contentFileName(honest));
    const infoHash = sha1(dictionary).toString('hex');
    return [{ ...honest, infoHash, pieces: new Uint8Array() }, wrapInfo(dictionary)];
  }

  async function expectRejected(update: Announcement, reason: RegExp): Promise<void> {
    expect(stateOf(update)).toBe('REJECTED');
    const told = eventsOf(node, update).filter(({ decision }) => decision === 'rejected');
    expect(told).toHaveLength(1);
    expect(told[0]?.reason).toMatch(reason);
    expect(outcomeOf(node, update)?.state ?? 'none').not.toBe('APPLIED');
    expect((await torrentsOn(node)).has(update.infoHash)).toBe(false);
    await fleet.waitFor('the data is gone', () =>
      readdirSync(node.config.downloadDir).every((name) => !name.includes(update.name)),
    );
    expect(existsSync(join(node.config.deliveryDir, update.name))).toBe(false);
  }

  it.each(lies.map(([what, make, reason], i) => ({ what, make, reason, channel: `held-${i}` })))(
    'is removed with its data, REJECTED and never applied: $what',
    async ({ make, reason, channel }) => {
      const [update, metainfo] = lieAbout(channel, make);
      await addTorrent(node, metainfo);
      expect((await torrentsOn(node)).has(update.infoHash)).toBe(true);
      await send(update);
      expect(await reconcile()).toMatchObject({ status: 0, stderr: '' });
      await expectRejected(update, reason);
    },
  );

  it('is removed and REJECTED too when it comes from the swarm', async () => {
    const bytes = content.subarray(1);
    const [update, metainfo] = lieAbout('swarm', (name) =>
      info([
        ['length', bytes.length],
        ['name', name],
        ['piece length', pieceLength],
        ['pieces', sha1(bytes)],
      ]),
    );
    // The liar's own node keeps out of it, and seeds.
    configure(liar, { channels: [] });
    writeFileSync(join(liar.config.downloadDir, contentFileName(update)), bytes);
    await addTorrent(liar, metainfo);
    await send(update);
    // It stays until the torrent is complete, then looks again.
    const staying = reconcile();
    await fleet.waitFor('the metadata has come', async () => {
      const torrent = (await torrentsOn(node)).get(update.infoHash);
      return torrent?.metadataPercentComplete === 1 || stateOf(update) === 'REJECTED';
    });
    await reconcile();
    await fleet.waitFor('it is rejected', () => hasEvent(node, update, 'rejected'));
    const reason = /says 99999 bytes, the announcement 100000/;
    await expectRejected(update, reason);
    // Left alone it would take up what later tests announce, by the configuration of now.
    expect(await staying).toMatchObject({ status: 0, stderr: '' });
    // It stays away.
    expect(await reconcile()).toMatchObject({ status: 0, stderr: '' });
    await expectRejected(update, reason);
  });
});

describe('content that is announced as too large', () => {
  it('is refused for this node, with 76, and no state changes', () => {
    const lone = makeLoneNode({ maxContentBytes: 1000 });
    for (const length of [1001, 2 ** 40, 2 ** 48 - 1]) {
      const pieces = new Uint8Array();
      const { status, stderr, changed, event } = lone.announce({ length, pieces });
      expect({ status, changed }).toEqual({ status: 76, changed: false });
      expect(stderr).toMatch(/error: .* bytes, this node takes at most 1000\n.*hint: .*maxContent/);
      expect(event).toMatchObject({ decision: 'refuse' });
    }
    expect(lone.announce({ length: 1000 }).status).toBe(0);
  });

  it('is not copied by the apply side either, even when it is in the store', async () => {
    const node = makeLoneNode({ maxContentBytes: 10 });
    const update = node.receive({ kind: 'file', name: 'a' }, Buffer.from('11 bytes of'));
    await node.apply();
    expect(node.outcomeOf(update)).toMatchObject({
      state: 'REJECTED',
      reason: 'its content has more than 10 bytes',
    });
    expect(node.delivered()).toEqual([]);
  });

  it('is not queued without free space of twice its length, and taken up once there is room', async () => {
    configure(node, { downloadDir: smallDisk });
    const content = randomBytes(200_000);
    const update = announcementOf(content, { channel: 'space', name: 'space.bin' });
    await seed(liar, update, content);
    await send(update);
    const announcements = join(node.config.stateDir, 'announcements');
    const before = readState(announcements);
    for (let run = 0; run < 2; run += 1) {
      await reconcile();
      const told = eventsOf(node, update).filter(({ decision }) => decision === 'wait');
      expect(told).toHaveLength(run + 1);
      expect(told[0]?.reason).toMatch(/bytes free, 400000 are needed/);
      expect((await torrentsOn(node)).size).toBe(0);
      expect(readdirSync(smallDisk)).toEqual([]);
      expect(readState(announcements)).toEqual(before);
      expect(outcomeOf(node, update)).toBeUndefined();
    }

    mustRun(['mount', '-o', 'remount,size=2m', smallDisk]);
    const speed = reconcile();
    await fleet.waitFor('it is downloaded and applied', async () => {
      await node.run([join(repository, 'dist/p2p-update.cjs'), 'apply', '--no-wait']);
      return outcomeOf(node, update)?.state === 'APPLIED';
    });
    await speed;
    expect(existsSync(join(node.config.deliveryDir, update.name))).toBe(true);
  });
});
