import { createHash, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { encodeAnnouncement, encodeBody } from '../../../lib/announcement/codec.ts';
import type { Announcement } from '../../../lib/announcement/fields.ts';
import { publicKeyOf } from '../../../lib/trust/ed25519.ts';
import { formatKeySet, type KeySet } from '../../../lib/trust/key-set.ts';
import { signBody } from '../../../lib/trust/verify.ts';

/** A fleet's keys, made for a test. */
export interface TestKeys {
  keySet: KeySet;
  releaseKeys: KeyObject[];
  rootKeys: KeyObject[];
}

/** Makes a key set with one root key and so many release keys, all of which must sign. */
export function makeKeys(fleet = 'test-fleet', signers = 1): TestKeys {
  const make = (): KeyObject => generateKeyPairSync('ed25519').privateKey;
  const releaseKeys = Array.from({ length: signers }, make);
  const rootKeys = [make()];
  const keySet: KeySet = {
    fleet,
    epoch: 1,
    rootThreshold: 1,
    rootKeys: rootKeys.map((key) => publicKeyOf(key)),
    releaseThreshold: signers,
    releaseKeys: releaseKeys.map((key) => ({ key: publicKeyOf(key), channels: null })),
  };
  return { keySet, releaseKeys, rootKeys };
}

/** PEM text of a private key, as keygen writes it. */
export function pemOf(key: KeyObject): string {
  return key.export({ type: 'pkcs8', format: 'pem' }).toString();
}

export function writeKeySet(file: string, { keySet }: TestKeys): void {
  writeFileSync(file, formatKeySet(keySet));
}

/** A valid announcement of a small manifest, made now; `change` replaces fields. */
export function makeAnnouncement(change: Partial<Announcement> = {}): Announcement {
  const now = Math.floor(Date.now() / 1000);
  const sha256 = createHash('sha256').update(JSON.stringify(change)).digest('hex');
  return {
    kind: 'manifest',
    noop: false,
    rerun: false,
    epoch: 1,
    version: now,
    created: now,
    notBefore: 0,
    expires: now + 3600,
    infoHash: sha256.slice(0, 40),
    sha256,
    length: 1000,
    pieceLength: 16_384,
    channel: 'default',
    name: 'site.pp',
    target: '',
    pieces: new Uint8Array(20).fill(7),
    ...change,
  };
}

/**
 * The payload of the event: an announcement signed by all release keys, a key set by all root keys;
 * or by `keys`, trusted or not.
 */
export function signAnnouncement(
  announcement: Announcement,
  { keySet, releaseKeys, rootKeys }: TestKeys,
  keys = announcement.kind === 'keyset' ? rootKeys : releaseKeys,
): string {
  const signers = keys
    .map((key) => ({ key, id: publicKeyOf(key).id }))
    .sort((a, b) => (a.id < b.id ? -1 : 1));
  const body = encodeBody(
    announcement,
    signers.map(({ id }) => id),
  );
  const signatures = signers.map(({ key }) => signBody(body, keySet.fleet, key));
  return encodeAnnouncement(body, signatures);
}
