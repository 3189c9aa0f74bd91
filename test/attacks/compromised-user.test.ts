import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  Attacker,
  contentFile,
  markerFile,
  offerOf,
  recordFile,
  rootsFiles,
  strangersKeys,
  type Offer,
} from '../support/split/attacker.ts';
import {
  downloadDir,
  outcomeOn,
  startSplitFleet,
  stateDir,
  submitManifest,
  untilApplied,
  whyNoUsers,
  writing,
  type ProductionNode,
  type SplitFleet,
} from '../support/split/fleet.ts';

const why = whyNoUsers();
const announcements = `${stateDir}/announcements`;

let fleet: SplitFleet;
let submitter: ProductionNode;
/** An attacker that holds its user p2p-update, and with it Transmission. */
let node: ProductionNode;
let attacker: Attacker;

beforeAll(async () => {
  if (why !== undefined) return;
  fleet = await startSplitFleet(2);
  [submitter, node] = fleet.nodes as [ProductionNode, ProductionNode];
  attacker = new Attacker(node);
  // Each pass of apply is looked at by itself.
  await node.manager.disable();
  // Its lock stays: it must not look like something that an attack has caused.
  await applyOnce();
});

afterAll(async () => {
  if (why === undefined) await fleet.stop();
});

/** One pass of apply, by its unit's command; a pass that hangs fails the test. */
async function applyOnce(): Promise<{ status: number | null; stderr: string }> {
  const { status, stderr } = await node.manager.start('p2p-update-apply.service');
  return { status, stderr };
}

const isApplied = async ({ mark, announcement }: Offer): Promise<boolean> => {
  const isMarked = (await node.machine.shell('root', `test -e ${mark}`)).status === 0;
  return isMarked || outcomeOn(node, announcement)?.state === 'APPLIED';
};

const genuine = (channel: string, change = {}, text?: string): Offer =>
  offerOf(fleet.keys, channel, change, text);

describe.skipIf(why !== undefined)(`user p2p-update${why === undefined ? '' : ` (${why})`}`, () => {
  it('may bring a genuine announcement, so that the cases below are refused for their own fault', async () => {
    const offer = genuine('honest');
    await attacker.plants(offer);
    expect(await applyOnce()).toEqual({ status: 0, stderr: '' });
    expect(await isApplied(offer)).toBe(true);
  });

  const attacks: [string, (offer: Offer) => Promise<Offer>][] = [
    [
      'an announcement with a signature of another key',
      async () => {
        const forged = offerOf(strangersKeys, 'forged');
        await attacker.plants(forged);
        return forged;
      },
    ],
    [
      'a genuine announcement under the name of another channel and version',
      async (offer) => {
        const name = `${announcements}/elsewhere@0000000000000007`;
        await attacker.plants(offer);
        await attacker.does(`mv '${recordFile(offer)}' '${name}'`);
        return offer;
      },
    ],
    [
      'a link as an announcement, also to a right one',
      async (offer) => {
        await attacker.plants(offer);
        await attacker.plantsRecord(offer, `${stateDir}/right`);
        await attacker.does(`ln -sf '${stateDir}/right' '${recordFile(offer)}'`);
        await attacker.does(`ln -s /etc/shadow '${announcements}/link@0000000000000001'`);
        return offer;
      },
    ],
    [
      'a FIFO as an announcement',
      async (offer) => {
        await attacker.plants(offer);
        await attacker.does(`rm '${recordFile(offer)}' && mkfifo '${recordFile(offer)}'`);
        return offer;
      },
    ],
    [
      'a link as content, to the right bytes',
      async (offer) => {
        await attacker.plants(offer);
        const file = contentFile(offer);
        await attacker.does(`mv '${file}' /tmp/right && ln -s /tmp/right '${file}'`);
        return offer;
      },
    ],
    [
      'a link as content, to a file of root',
      async (offer) => {
        await attacker.plants(offer);
        await attacker.does(`ln -sf /etc/shadow '${contentFile(offer)}'`);
        return offer;
      },
    ],
    [
      'a FIFO as content',
      async (offer) => {
        await attacker.plants(offer);
        await attacker.does(`rm '${contentFile(offer)}' && mkfifo '${contentFile(offer)}'`);
        return offer;
      },
    ],
    [
      'other content of the same length',
      async (offer) => {
        await attacker.plants(offer, Buffer.from(offer.content.toString().replace('appl', 'evil')));
        return offer;
      },
    ],
    [
      'a link as a marker',
      async (offer) => {
        await attacker.plants(offer, Buffer.alloc(0));
        await attacker.does(`rm '${markerFile(offer)}'; ln -s /etc/shadow '${markerFile(offer)}'`);
        return offer;
      },
    ],
  ];
  it.each(attacks)('gets nothing applied with %s', async (_, plant) => {
    const number = String(attacks.findIndex(([, each]) => each === plant));
    const offer = await plant(genuine(`attack-${number}`));
    const before = await rootsFiles(node);
    expect(await applyOnce()).toEqual({ status: 0, stderr: '' });
    expect(await isApplied(offer)).toBe(false);
    expect(await rootsFiles(node)).toBe(before);
    // A second time: no state was kept that would make it pass.
    await attacker.rings(offer).catch(() => undefined);
    expect((await applyOnce()).status).toBe(0);
    expect(await isApplied(offer)).toBe(false);
    expect(await rootsFiles(node)).toBe(before);
  });

  it('gets no older announcement applied, whatever it removes', async () => {
    const now = Math.floor(Date.now() / 1000);
    const old = genuine('order', { version: now - 10 }, 'old');
    const current = genuine('order', { version: now }, 'new');
    await attacker.plants(current);
    expect(await applyOnce()).toEqual({ status: 0, stderr: '' });
    expect(node.machine.read(current.mark)).toBe('new');
    await attacker.does(`rm -rf '${recordFile(current)}' ${stateDir}/updates/*`);
    await attacker.plants(old);
    const before = await rootsFiles(node);
    expect(await applyOnce()).toEqual({ status: 0, stderr: '' });
    expect(outcomeOn(node, old.announcement)).toBeUndefined();
    expect(await rootsFiles(node)).toBe(before);
  });

  it.each([
    ['a directory of its own', '/tmp/planted', true],
    ["root's home", '/root', true],
    ['a file of root', '/etc/shadow', false],
    ['a device', '/dev/zero', false],
    ['itself', 'announcements', false],
  ])(
    'gets nothing applied, and hangs no pass, with announcements/ linked to %s',
    async (_, to, isDirectory) => {
      const forged = offerOf(strangersKeys, 'linked');
      await attacker.plants(forged);
      await attacker.does(`mv ${announcements} ${announcements}.real
      rm -rf /tmp/planted; cp -r ${announcements}.real /tmp/planted; ln -s ${to} ${announcements}`);
      const before = await rootsFiles(node);
      const { status, stderr } = await applyOnce();
      // This user can hide announcements; where apply cannot go on it reports that.
      if (isDirectory) expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
      else expect(stderr).toMatch(/^apply: error: .*announcements/);
      expect(await rootsFiles(node)).toBe(before);
      expect(await isApplied(forged)).toBe(false);
      await attacker.does(`rm ${announcements} && mv ${announcements}.real ${announcements}`);
      expect(await applyOnce()).toEqual({ status: 0, stderr: '' });
    },
  );

  it('keeps no genuine update out with 1,000 files of rubbish', async () => {
    // Transmission 3.00 itself opens what it finds there, and waits for a writer of a FIFO for ever.
    await attacker.does(`find ${downloadDir} -type p -delete`);
    // Torrents that can never complete keep advance busy for 30 s a run, which is not tested here.
    await attacker.does(`rm -f ${announcements}/attack-*`);
    const names = Array.from({ length: 1000 }, (_, index) =>
      index % 2 === 0 ? `rubbish ${index}` : `junk-${index % 9}@${String(index).padStart(16, '0')}`,
    );
    const input = names.map((name) => `${announcements}/${name}\n`).join('');
    await attacker.does(`while read -r name; do echo rubbish > "$name"; done`, input);
    const before = await rootsFiles(node);
    expect(await applyOnce()).toEqual({ status: 0, stderr: '' });
    expect(await rootsFiles(node)).toBe(before);
    for (const name of ['p2p-update-advance', 'p2p-update-apply']) node.manager.enable(name);
    const update = await submitManifest(submitter, 'next', writing('/root/next', 'next'));
    await untilApplied(fleet, update);
    expect(node.machine.read('/root/next')).toBe('next');
  });
});
