import { createHash, generateKeyPairSync } from 'node:crypto';
import { rmSync, writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import type { Announcement } from '../../lib/announcement/fields.ts';
import { parseAnnouncement } from '../../lib/announcement/update.ts';
import { currentKeySet } from '../../lib/state/key-chain.ts';
import { publicKeyOf } from '../../lib/trust/ed25519.ts';
import { formatKeySet, type KeySet } from '../../lib/trust/key-set.ts';
import {
  makeAnnouncement,
  makeKeys,
  signAnnouncement,
  type TestKeys,
} from '../support/fleet/announce.ts';
import { type LoneNode, makeLoneNode } from '../support/fleet/lone-node.ts';

const generate = () => generateKeyPairSync('ed25519').privateKey;

/** The key set after `keys`, and the announcement by which its roots sign it. */
function nextKeySet(
  keys: TestKeys,
  change: Partial<KeySet>,
  signers = keys.rootKeys,
): { text: string; payload: string; keySet: KeySet } {
  const keySet = { ...keys.keySet, epoch: keys.keySet.epoch + 1, ...change };
  const text = formatKeySet(keySet);
  const sha256 = createHash('sha256').update(text).digest('hex');
  const announcement = makeAnnouncement({
    kind: 'keyset',
    channel: 'keyset',
    name: `keyset-${keySet.epoch}.txt`,
    epoch: keys.keySet.epoch,
    version: keys.keySet.epoch + 1,
    expires: 2 ** 32 - 1,
    sha256,
    infoHash: sha256.slice(0, 40),
    length: text.length,
    pieces: new Uint8Array(),
  });
  return { text, payload: signAnnouncement(announcement, keys, signers), keySet };
}

/** Announces a key set and takes it up, as after a download. */
async function advanceEpoch(node: LoneNode, { text, payload }: ReturnType<typeof nextKeySet>) {
  expect(node.send(payload).status).toBe(0);
  node.download(payload, Buffer.from(text));
  await node.apply();
}

const file = (content: string, change: Partial<Announcement> = {}): Announcement => {
  const sha256 = createHash('sha256').update(content).digest('hex');
  const own = { sha256, infoHash: sha256.slice(0, 40), length: content.length };
  return makeAnnouncement({ kind: 'file', name: 'a', pieces: new Uint8Array(), ...own, ...change });
};

describe('a threshold', () => {
  it('of two is not met by one stolen key', () => {
    const keys = makeKeys('test-fleet', 2);
    const node = makeLoneNode({}, keys);
    const one = signAnnouncement(makeAnnouncement(), keys, keys.releaseKeys.slice(0, 1));
    expect(node.send(one)).toMatchObject({ status: 77, changed: false });
    expect(node.announce().status).toBe(0);
  });

  it('of root keys is not met by one of two', () => {
    const keys = makeKeys();
    const second = generate();
    keys.rootKeys.push(second);
    keys.keySet.rootKeys.push(publicKeyOf(second));
    keys.keySet.rootThreshold = 2;
    const node = makeLoneNode({}, keys);
    const release = [{ key: publicKeyOf(generate()), channels: null }];
    const one = nextKeySet(keys, { releaseKeys: release }, [second]);
    expect(node.send(one.payload)).toMatchObject({ status: 77, changed: false });
    expect(node.send(nextKeySet(keys, { releaseKeys: release }).payload).status).toBe(0);
  });
});

describe('a release key', () => {
  it('cannot change the key set, on either side', async () => {
    const keys = makeKeys();
    const node = makeLoneNode({}, keys);
    const thief = generate();
    const stolen = nextKeySet(keys, { rootKeys: [publicKeyOf(thief)] }, keys.releaseKeys);
    expect(node.send(stolen.payload)).toMatchObject({ status: 77, changed: false });
    // The handler's side is taken over as well: the apply side judges for itself.
    node.plant(stolen.payload);
    node.download(stolen.payload, Buffer.from(stolen.text));
    await node.apply();
    expect(currentKeySet(node.config)).toEqual(keys.keySet);
  });

  it('cannot leave its channels', () => {
    const keys = makeKeys();
    keys.keySet.releaseKeys = keys.keySet.releaseKeys.map(({ key }) => ({
      key,
      channels: ['lab'],
    }));
    const node = makeLoneNode({}, keys);
    expect(node.announce({ channel: 'default' })).toMatchObject({ status: 77, changed: false });
    expect(node.announce({ channel: 'lab' }).status).toBe(0);
  });

  it('cannot sign as a root key, nor a root key as a release key', () => {
    const keys = makeKeys();
    const node = makeLoneNode({}, keys);
    const byRoot = signAnnouncement(makeAnnouncement(), keys, keys.rootKeys);
    expect(node.send(byRoot)).toMatchObject({ status: 77, changed: false });
  });
});

describe('revocation by a key set', () => {
  const newKey = generate();
  const revoked = (keys: TestKeys) =>
    nextKeySet(keys, { releaseKeys: [{ key: publicKeyOf(newKey), channels: null }] });

  it('refuses updates that the removed key signs from then on, with the old epoch too', async () => {
    const keys = makeKeys();
    const node = makeLoneNode({}, keys);
    const next = revoked(keys);
    await advanceEpoch(node, next);
    expect(currentKeySet(node.config)).toEqual(next.keySet);
    expect(node.announce({ epoch: 1 })).toMatchObject({ status: 77, changed: false });
    const heir = { ...keys, keySet: next.keySet, releaseKeys: [newKey] };
    expect(node.announce({ epoch: 2 }, heir).status).toBe(0);
  });

  it('refuses before apply an update that was accepted, downloaded and staged already', async () => {
    const keys = makeKeys();
    const node = makeLoneNode({}, keys);
    const announcement = file('signed by a key that is then revoked', {
      notBefore: Math.floor(Date.now() / 1000) + 1000,
    });
    const payload = signAnnouncement(announcement, keys);
    expect(node.send(payload).status).toBe(0);
    node.download(payload, Buffer.from('signed by a key that is then revoked'));
    await node.apply();
    await advanceEpoch(node, revoked(keys));
    await node.apply(announcement.notBefore);
    expect(node.outcomeOf(parseAnnouncement(payload).update)?.state).not.toBe('APPLIED');
    expect(node.delivered()).toEqual([]);
  });

  it('ends an update that waits for another try', async () => {
    const keys = makeKeys();
    const node = makeLoneNode({}, keys);
    writeFileSync(node.config.puppet.command, '#!/bin/sh\nexit 4\n', { mode: 0o755 });
    const failing = node.receive({ kind: 'manifest' }, Buffer.from('fail'));
    await node.apply();
    expect(node.outcomeOf(failing)?.state).toBe('FAILED');
    await advanceEpoch(node, revoked(keys));
    await node.apply(Math.floor(Date.now() / 1000) + 1000);
    expect(node.outcomeOf(failing)).toMatchObject({ state: 'WITHDRAWN', tries: 1 });
  });

  it('leaves the channel without an update, rather than bring back an older one', async () => {
    const keys = makeKeys();
    const other = generate();
    keys.releaseKeys.push(other);
    keys.keySet.releaseKeys.push({ key: publicKeyOf(other), channels: null });
    const node = makeLoneNode({}, keys);
    const now = Math.floor(Date.now() / 1000);
    const older = signAnnouncement(file('older', { version: now }), keys, [other]);
    const newer = signAnnouncement(
      file('newer', { version: now + 1 }),
      keys,
      keys.releaseKeys.slice(0, 1),
    );
    for (const payload of [older, newer]) expect(node.send(payload).status).toBe(0);
    await advanceEpoch(
      node,
      nextKeySet(keys, { releaseKeys: [{ key: publicKeyOf(other), channels: null }] }),
    );
    node.download(older, Buffer.from('older'));
    await node.apply();
    expect(node.delivered()).toEqual([]);
  });
});

describe('a node three epochs behind', () => {
  it('follows the chain one epoch at a time, through new root keys, and skips none', async () => {
    const keys = makeKeys();
    const node = makeLoneNode({}, keys);
    const chain: ReturnType<typeof nextKeySet>[] = [];
    let last = keys;
    for (let epoch = 2; epoch <= 4; epoch += 1) {
      const rootKey = generate();
      const next = nextKeySet(last, { rootKeys: [publicKeyOf(rootKey)] });
      chain.push(next);
      last = { ...last, keySet: next.keySet, rootKeys: [rootKey] };
    }
    const [second, third, fourth] = chain as [
      (typeof chain)[0],
      (typeof chain)[0],
      (typeof chain)[0],
    ];
    for (const ahead of [third, fourth])
      expect(node.send(ahead.payload)).toMatchObject({ status: 75, changed: false });
    for (const link of [second, third, fourth]) await advanceEpoch(node, link);
    expect(currentKeySet(node.config)).toEqual(last.keySet);
    for (const past of chain) expect([76, 77, 0]).toContain(node.send(past.payload).status);
    expect(currentKeySet(node.config).epoch).toBe(4);
  });

  it('does not fall back when the newest key set is lost or damaged: 78', async () => {
    const keys = makeKeys();
    const node = makeLoneNode({}, keys);
    await advanceEpoch(node, nextKeySet(keys, {}));
    const kept = `${node.config.applyDir}/keysets/0000000002`;
    writeFileSync(kept, 'rubbish');
    expect(node.announce({ epoch: 1 })).toMatchObject({ status: 78, changed: false });
    rmSync(kept);
    expect(node.announce({ epoch: 1 })).toMatchObject({ status: 78, changed: false });
  });

  it('takes no key set of another fleet, epoch or form, even from its own root keys', async () => {
    for (const change of [{ fleet: 'other' }, { epoch: 7 }, { epoch: 1 }]) {
      const keys = makeKeys();
      const node = makeLoneNode({}, keys);
      const good = nextKeySet(keys, {});
      const text = formatKeySet({ ...good.keySet, ...change });
      const sha256 = createHash('sha256').update(text).digest('hex');
      const { announcement } = parseAnnouncement(good.payload).signed;
      const content = { sha256, infoHash: sha256.slice(0, 40), length: text.length };
      const payload = signAnnouncement({ ...announcement, ...content }, keys);
      await advanceEpoch(node, { ...good, payload, text });
      expect(currentKeySet(node.config)).toEqual(keys.keySet);
      expect(node.outcomeOf(parseAnnouncement(payload).update)?.state).toBe('POISONED');
    }
  });
});
