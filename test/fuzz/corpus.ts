import { createHash, createPrivateKey, type KeyObject, sign } from 'node:crypto';
import { encodeBody } from '../../lib/announcement/codec.ts';
import type { Announcement, Kind } from '../../lib/announcement/fields.ts';
import { publicKeyOf } from '../../lib/trust/ed25519.ts';
import type { KeySet } from '../../lib/trust/key-set.ts';
import { encodePoint, fromLittleEndian, groupOrder, littleEndian } from '../lib/trust/edwards.ts';

/** An announcement to start from, genuine or not. */
export interface Sample {
  bytes: Buffer;
  /** Start and end of each field, in the order of the wire. */
  fields: [start: number, end: number][];
}

export interface Corpus {
  /** Configurations by one of which a run is judged: both of one fleet and with the same keys. */
  worlds: World[];
  /** Genuine in one world or both. */
  genuine: Sample[];
  /** Genuine in neither: of other fleets and keys, or of fields that trusted keys must not sign. */
  refused: Sample[];
  /** Raw .torrent files, as a closed lab would send them. */
  torrents: Buffer[];
}

export interface World {
  keySet: KeySet;
  /** The payloads that must be accepted; everything else must not. */
  genuine: Set<string>;
}

interface Key {
  id: string;
  seed: Buffer;
  key: KeyObject;
}

const fleet = 'fuzz-fleet';
const epoch = 3;
const time = 1_800_000_000;

/** All of it follows from the seed: Ed25519 signatures have no random part. */
export function makeCorpus(seed: number): Corpus {
  const make = (name: string): Key => {
    const keySeed = createHash('sha256').update(`${seed} ${name}`).digest();
    // RFC 8410: a PKCS#8 PrivateKeyInfo that holds the seed of RFC 8032.
    const der = Buffer.concat([Buffer.from('302e020100300506032b657004220420', 'hex'), keySeed]);
    const key = createPrivateKey({ key: der, format: 'der', type: 'pkcs8' });
    return { id: publicKeyOf(key).id, seed: keySeed, key };
  };
  const [a, b, web] = [make('a'), make('b'), make('web')];
  const roots = [make('root 1'), make('root 2'), make('root 3')];
  const stranger = make('stranger');
  const keySet: KeySet = {
    fleet,
    epoch,
    rootThreshold: 2,
    rootKeys: roots.map(({ key }) => publicKeyOf(key)),
    releaseThreshold: 1,
    releaseKeys: [a, b, web].map((key) => ({
      key: publicKeyOf(key.key),
      channels: key === web ? ['web', 'web-2'] : null,
    })),
  };
  const worlds = [1, 2].map((releaseThreshold) => ({
    keySet: { ...keySet, releaseThreshold },
    genuine: new Set<string>(),
  }));
  const genuine: Sample[] = [];
  const refused: Sample[] = [];

  const [root1, root2] = [roots.slice(0, 1), roots.slice(0, 2)];
  for (const [index, fields] of announcements().entries()) {
    const isKeySet = fields.kind === 'keyset';
    const onWeb = fields.channel.startsWith('web');
    const sets = isKeySet ? [root2, roots] : onWeb ? [[web], [a, b, web]] : [[a], [a, b]];
    for (const signers of sets) {
      const sample = sealed(fields, signers);
      genuine.push(sample);
      for (const { keySet, genuine: texts } of worlds)
        if (isKeySet || signers.length >= keySet.releaseThreshold) texts.add(wire(sample.bytes));
    }
    refused.push(sealed(fields, sets[0] ?? [], { fleet: 'fuzz-flee' }));
    refused.push(sealed(fields, [stranger]));
    // Signed by a stranger under the trusted key's id.
    refused.push(sealed(fields, isKeySet ? root2 : [a], { signWith: stranger.key }));
    refused.push(smallOrder(fields, isKeySet ? root2 : [a]));
    refused.push(isKeySet ? sealed(fields, root1) : sealed(fields, root2));
    if (isKeySet) refused.push(sealed(fields, [a, b]));
    else {
      const next = { ...fields, epoch: epoch + 1 };
      refused.push(sealed(next, [a]));
      if (!onWeb) refused.push(sealed(fields, [web]));
    }
    // Fields that no rule allows, with good signatures of trusted keys over them.
    const [offset, bytes] = brokenFields[index % brokenFields.length] ?? [0, []];
    const breakField = (body: Buffer): void => {
      body.set(bytes, offset);
    };
    refused.push(sealed(fields, isKeySet ? root2 : [a], { change: breakField }));
  }
  // One key that counts twice, for a threshold of two.
  const [first] = announcements();
  if (first !== undefined) {
    const twice = (body: Buffer): void => {
      body.copyWithin(body.length - 8, body.length - 16, body.length - 8);
    };
    const { key } = a.id < b.id ? a : b;
    refused.push(sealed(first, [a, b], { change: twice, signWith: key }));
  }
  return { worlds, genuine, refused, torrents: torrents() };
}

/** As on the wire: base64url without padding. */
export function wire(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64url');
}

/** Format, kind, flags, version 2^53, expiry 0, and a channel, name and piece length out of rule. */
const brokenFields: [number, number[]][] = [
  [0, [2]],
  [1, [7]],
  [2, [4]],
  [2, [128]],
  [8, [0, 32, 0, 0]],
  [24, [0, 0, 0, 0]],
  [86, [60]],
  [88, [45]],
];

/** Two or more of each kind, on three channels. */
function announcements(): Announcement[] {
  const kinds: Kind[] = ['manifest', 'module', 'environment', 'file', 'keyset', 'withdraw'];
  return kinds.flatMap((kind, index) =>
    [0, 1].map((turn): Announcement => {
      const digest = createHash('sha256').update(`${kind} ${turn}`).digest('hex');
      const isKeySet = kind === 'keyset';
      const isEmpty = kind === 'withdraw';
      const noop = turn === 1 && (kind === 'manifest' || kind === 'environment');
      const pieceLength = isEmpty ? 0 : 16_384 << turn;
      const pieceCount = isEmpty ? 0 : turn * 2;
      return {
        kind,
        noop,
        rerun: turn === 1 && !isKeySet,
        epoch: isKeySet ? epoch : epoch - turn,
        version: isKeySet ? epoch + 1 : time + index * 10 + turn,
        created: time + turn,
        notBefore: turn * (time + 60),
        expires: isKeySet ? 2 ** 32 - 1 : time + 86_400,
        infoHash: isEmpty ? '0'.repeat(40) : digest.slice(0, 40),
        sha256: isEmpty ? '0'.repeat(64) : digest,
        length: isEmpty ? 0 : 30_000 * (turn + 1),
        pieceLength,
        channel: isKeySet ? 'keyset' : (['default', 'web', 'web-2'][(index + turn) % 3] ?? ''),
        name: isKeySet ? `keyset-${epoch + 1}.txt` : (['site.pp', 'new-site.pp'][turn] ?? ''),
        target: isKeySet || turn === 0 ? '' : 'role=web,share=10%',
        pieces: createHash('shake256', { outputLength: pieceCount * 20 })
          .update(kind)
          .digest(),
      };
    }),
  );
}

/**
 * Signs an announcement. `change` breaks the body before it is signed; `signWith` signs in the place
 * of the listed keys.
 */
function sealed(
  fields: Announcement,
  signers: readonly Key[],
  options: { fleet?: string; signWith?: KeyObject; change?: (body: Buffer) => void } = {},
): Sample {
  const sorted = [...signers].sort((x, y) => (x.id < y.id ? -1 : 1));
  const ids = sorted.map(({ id }) => id);
  const body = Buffer.from(encodeBody(fields, ids));
  options.change?.(body);
  const signatures = sorted.map(({ key }) =>
    sign(null, signedBytes(body, options.fleet), options.signWith ?? key),
  );
  return { bytes: Buffer.concat([body, ...signatures]), fields: layout(fields, ids.length) };
}

/**
 * The neutral point as R, and S = k * a, by the keys' own holders: good for OpenSSL, and other bytes
 * than the genuine announcement's.
 */
function smallOrder(fields: Announcement, signers: readonly Key[]): Sample {
  const sample = sealed(fields, signers);
  const sorted = [...signers].sort((x, y) => (x.id < y.id ? -1 : 1));
  const bodyLength = sample.bytes.length - 64 * sorted.length;
  const body = sample.bytes.subarray(0, bodyLength);
  const message = signedBytes(body);
  const signatures = sorted.map(({ seed, key }) => {
    const r = encodePoint(1n, 0n);
    const secret = createHash('sha512').update(seed).digest().subarray(0, 32);
    const scalar = (fromLittleEndian(secret) & (2n ** 254n - 8n)) | (2n ** 254n);
    const { raw } = publicKeyOf(key);
    const k = createHash('sha512').update(r).update(raw).update(message).digest();
    return Buffer.concat([r, littleEndian((fromLittleEndian(k) * scalar) % groupOrder)]);
  });
  return { ...sample, bytes: Buffer.concat([body, ...signatures]) };
}

/** Follows docs/announcement.md, and not lib/, whose faults must not hide themselves here. */
function signedBytes(body: Uint8Array, signedFleet = fleet): Buffer {
  const fleetHash = createHash('sha256').update(signedFleet).digest();
  return Buffer.concat([Buffer.from('p2p-update/announcement/v1\0'), fleetHash, body]);
}

/** Start and end of each field of docs/announcement.md. */
function layout(fields: Announcement, signers: number): Sample['fields'] {
  const { channel, name, target, pieces } = fields;
  const fixed = [1, 1, 1, 1, 4, 8, 4, 4, 4, 20, 32, 6, 1];
  const texts = [channel, name, target, pieces].map(({ length }) => 1 + length);
  let end = 0;
  return [...fixed, ...texts, 8 * signers, ...Array<number>(signers).fill(64)].map((size) => {
    end += size;
    return [end - size, end];
  });
}

function torrents(): Buffer[] {
  const info = (length: number, pieces: number): string =>
    `d6:lengthi${length}e4:name7:site.pp12:piece lengthi16384e6:pieces${pieces * 20}:` +
    `${'p'.repeat(pieces * 20)}e`;
  return [
    `d13:creation datei${time}e4:info${info(1000, 1)}e`,
    `d8:announce20:http://127.0.0.1/ann13:creation datei${time}e4:info${info(40_000, 3)}e`,
  ].map((text) => Buffer.from(text, 'latin1'));
}
