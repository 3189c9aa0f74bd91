import { createHash } from 'node:crypto';
import {
  closeSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { buildTime } from '../../lib/build.ts';
import { acceptPayload } from '../../lib/state/accept.ts';
import { loadVerified } from '../../lib/state/candidates.ts';
import { listAccepted } from '../../lib/state/facts.ts';
import { HeldUpdates } from '../../lib/state/held.ts';
import { currentKeySet } from '../../lib/state/key-chain.ts';
import { completeDir } from '../../lib/state/layout.ts';
import { formatKeySet } from '../../lib/trust/key-set.ts';
import { makeAnnouncement, makeKeys, signAnnouncement } from '../support/fleet/announce.ts';
import { type LoneNode, makeLoneNode } from '../support/fleet/lone-node.ts';
import { announcementOf } from '../support/fleet/wire.ts';
import { mustRun, runSync } from '../support/run/command.ts';
import { repository } from '../support/run/repository.ts';
import { readTree } from '../support/run/tree.ts';

/** One run of the apply side, as a path unit starts it. */
function runApply(node: LoneNode): { status: number | null; stderr: string } {
  const { status, stderr } = runSync([join(repository, 'dist/p2p-update.cjs'), 'apply'], {
    env: { PATH: '/usr/bin:/bin', P2P_UPDATE_CONFIG: node.configFile },
  });
  return { status, stderr };
}

const names = (directory: string): Buffer[] => readdirSync(directory, { encoding: 'buffer' });

/** More than any run may remove, so that what is left over shows the bound. */
const floodSize = 100_000;
const maxRemovedInARun = 70_000;

describe('a flood of completion markers', () => {
  it('of 100,000 files, and of other things than files, does not keep an update waiting', () => {
    const node = makeLoneNode();
    const complete = completeDir(node.config.applyDir);
    const outside = join(node.directory, 'outside');
    mkdirSync(join(outside, 'directory'), { recursive: true });
    writeFileSync(join(outside, 'file'), 'not to be touched');
    writeFileSync(join(outside, 'directory', 'file'), 'nor this');
    mkdirSync(complete, { recursive: true });
    const at = (name: string): string => join(complete, name);
    const hashOf = (i: number): string => createHash('sha1').update(String(i)).digest('hex');

    for (let i = 0; i < floodSize / 2; i += 1) closeSync(openSync(at(hashOf(i)), 'w'));
    for (let i = 0; i < 50; i += 1) {
      mkdirSync(at(`empty-${i}`));
      mkdirSync(at(`full-${i}`));
      writeFileSync(join(at(`full-${i}`), 'file'), '');
      symlinkSync(join(outside, i % 2 === 0 ? 'file' : 'directory'), at(`link-${i}`));
      symlinkSync('/nowhere', at(`dangling-${i}`));
      writeFileSync(at(`${i}-${'l'.repeat(250)}`), 'x'.repeat(1000));
      writeFileSync(at(`\n; rm -rf ${i} $(id)`), '');
      writeFileSync(
        Buffer.concat([Buffer.from(`${complete}/`), Buffer.from([0xff, 0xfe, 0x80 + i])]),
        '',
      );
    }
    // As if they were markers of due updates: neither may be followed.
    symlinkSync(join(outside, 'file'), at('1'.repeat(40)));
    linkSync(join(outside, 'file'), at('2'.repeat(40)));
    mkdirSync(at('3'.repeat(40)));
    mustRun(['mkfifo', at('fifo'), at('4'.repeat(40))]);
    const { mtimeMs } = statSync(join(outside, 'file'));
    const before = readTree(outside);

    const update = node.receive({ kind: 'file', name: 'due.bin' }, Buffer.from('due'));
    for (let i = floodSize / 2; i < floodSize; i += 1) closeSync(openSync(at(hashOf(i)), 'w'));
    const total = names(complete).length;

    expect(runApply(node)).toEqual({ status: 0, stderr: '' });
    expect(node.outcomeOf(update)).toMatchObject({ state: 'APPLIED' });
    expect(node.delivered()).toEqual(['due.bin']);
    const removed = total - names(complete).length;
    expect(removed).toBeGreaterThan(500);
    expect(removed).toBeLessThan(maxRemovedInARun);

    for (let run = 0; run < 4 && names(complete).length > 50; run += 1)
      expect(runApply(node)).toEqual({ status: 0, stderr: '' });
    // Root does not walk through trees that others can change.
    const left = readdirSync(complete);
    expect(left.filter((name) => !/^full-\d+$/.test(name))).toEqual([]);
    expect(left).toHaveLength(50);

    expect(readTree(outside)).toEqual(before);
    expect(statSync(join(outside, 'file')).mtimeMs).toBe(mtimeMs);
    expect(node.outcomeOf(update)).toMatchObject({ state: 'APPLIED', tries: 0 });
  });

  it('of directories that cannot be removed hides neither an update nor the rest', () => {
    const node = makeLoneNode();
    const complete = completeDir(node.config.applyDir);
    for (let i = 0; i < 1500; i += 1)
      mkdirSync(join(complete, `full-${i}`, 'x'), { recursive: true });
    for (let i = 0; i < 1500; i += 1) closeSync(openSync(join(complete, `file-${i}`), 'w'));
    const update = node.receive({ kind: 'file', name: 'due.bin' }, Buffer.from('due'));
    for (let run = 0; run < 4; run += 1) {
      expect(runApply(node)).toEqual({ status: 0, stderr: '' });
      expect(node.outcomeOf(update)).toMatchObject({ state: 'APPLIED', tries: 0 });
    }
    const files = readdirSync(complete).filter((name) => lstatSync(join(complete, name)).isFile());
    expect(files).toEqual([]);
  });
});

describe('a flood of channels', () => {
  const now = (): number => Math.floor(Date.now() / 1000);

  /** Offers announcements on so many channels, as the handler does; returns what was decided. */
  async function flood(node: LoneNode, channels: number): Promise<string[]> {
    const decisions: string[] = [];
    for (let i = 0; i < channels; i += 1) {
      const announcement = makeAnnouncement({ channel: `flood-${i}` });
      const payload = Buffer.from(signAnnouncement(announcement, node.keys));
      const { decision } = await acceptPayload(payload, node.config, {
        nowSeconds: now(),
        buildTime,
      });
      decisions.push(decision.kind);
    }
    return decisions;
  }

  it('by a trusted signer ends at 64, and the others are refused with 76', async () => {
    const node = makeLoneNode();
    expect(node.announce({ channel: 'mine' }).status).toBe(0);
    const decisions = await flood(node, 1000);
    expect(decisions.slice(0, 63)).toEqual(Array(63).fill('accept'));
    expect(decisions.slice(63)).toEqual(Array(937).fill('refuse'));
    expect(new Set(listAccepted(node.config.stateDir).map(({ channel }) => channel)).size).toBe(64);
    const { status, stderr, changed, event } = node.announce({ channel: 'one-more' });
    expect({ status, changed }).toEqual({ status: 76, changed: false });
    expect(stderr).toMatch(/error: .*64 channels already\n.*hint: /);
    expect(event).toMatchObject({ decision: 'refuse', channel: 'one-more' });
  });

  it('leaves the existing channels, and key sets, as they were', async () => {
    const keys = makeKeys();
    const node = makeLoneNode({}, keys);
    expect(node.announce({ channel: 'mine' }).status).toBe(0);
    await flood(node, 100);

    const content = Buffer.from('newer');
    const newer = announcementOf(content, { channel: 'mine', version: now() + 1 });
    const payload = signAnnouncement(newer, keys);
    expect(node.send(payload).status).toBe(0);
    node.download(payload, content);

    const text = formatKeySet({ ...keys.keySet, epoch: 2 });
    const sha256 = createHash('sha256').update(text).digest('hex');
    const keySet = makeAnnouncement({
      ...{ kind: 'keyset', channel: 'keyset', name: 'keyset-2.txt', version: 2, sha256 },
      ...{ expires: 2 ** 32 - 1, infoHash: sha256.slice(0, 40), length: text.length },
      pieces: new Uint8Array(),
    });
    const signed = signAnnouncement(keySet, keys);
    expect(node.send(signed).status).toBe(0);
    node.download(signed, Buffer.from(text));

    expect(runApply(node)).toEqual({ status: 0, stderr: '' });
    expect(node.delivered()).toEqual([newer.name]);
    expect(currentKeySet(node.config).epoch).toBe(2);
  });

  it('written into the store by an attacker keeps the apply side no busier', async () => {
    const node = makeLoneNode();
    for (let i = 0; i < 1000; i += 1)
      node.plant(signAnnouncement(makeAnnouncement({ channel: `flood-${i}` }), node.keys));
    const { current, ended, unusable } = await loadVerified(new HeldUpdates(node.config));
    expect(current.length + ended.length + unusable.length).toBeLessThanOrEqual(65);
    expect(runApply(node)).toEqual({ status: 0, stderr: '' });
    expect(readFileSync(node.configFile, 'utf8')).toContain('"channels":null');
  });
});
