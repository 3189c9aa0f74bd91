import { createHash, createPublicKey, generateKeyPairSync, sign, verify } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  decodeAnnouncement,
  encodeAnnouncement,
  encodeBody,
  type SignedAnnouncement,
} from '../../../lib/announcement/codec.ts';
import { UpdateError } from '../../../lib/errors.ts';
import { publicKeyFromPem, publicKeyFromRaw, publicKeyOf } from '../../../lib/trust/ed25519.ts';
import { type KeySet, parseKeySet } from '../../../lib/trust/key-set.ts';
import { signBody, verifyAnnouncement } from '../../../lib/trust/verify.ts';
import { refusal } from '../../support/run/refusal.ts';
import { keySetText, vectorFields, vectorKey, vectors } from '../announcement/vectors.ts';
import {
  encodePoint,
  fromLittleEndian,
  groupOrder,
  littleEndian,
  smallOrderPoints,
} from './edwards.ts';

const keySet = parseKeySet(keySetText);
const [a = '', b = '', c = '', root = ''] = vectors.keys.map(({ id }) => id);
const [vector] = vectors.announcements;
if (vector === undefined) throw new Error('no vectors');
const fields = vectorFields(vector);

/** The first vector, changed and signed again. */
function signed(
  signers: string[],
  changed: Partial<typeof fields> = {},
  fleet = vectors.fleet,
): SignedAnnouncement {
  const ids = [...signers].sort();
  const body = encodeBody({ ...fields, ...changed }, ids);
  const signatures = ids.map((id) => signBody(body, fleet, vectorKey(id)));
  return decodeAnnouncement(encodeAnnouncement(body, signatures));
}

function verdict(announcement: SignedAnnouncement, trusted: KeySet = keySet): string {
  try {
    verifyAnnouncement(announcement, trusted);
    return 'accepted';
  } catch (error) {
    if (error instanceof UpdateError) return error.code;
    throw error;
  }
}

/** The signed bytes of docs/announcement.md#signatures, made without lib/. */
function pageSignedBytes(body: Uint8Array): Buffer {
  const fleetHash = createHash('sha256').update(vectors.fleet).digest();
  return Buffer.concat([Buffer.from('p2p-update/announcement/v1\0'), fleetHash, body]);
}

describe('publicKeyFromRaw', () => {
  it.each(vectors.keys)('names $name by the hash of its SPKI', ({ seed, publicKey, id }) => {
    const spki = createPublicKey(vectorKey(id)).export({ format: 'der', type: 'spki' });
    expect(createHash('sha256').update(spki).digest('hex').slice(0, 16)).toBe(id);
    expect(seed).toHaveLength(64);
    const key = publicKeyFromRaw(Buffer.from(publicKey, 'hex'));
    expect(key.id).toBe(id);
    expect(publicKeyOf(vectorKey(id))).toEqual(key);
    expect(publicKeyOf(createPublicKey(vectorKey(id)))).toEqual(key);
  });

  const points = smallOrderPoints();

  it('is tested with eight different points of small order', () => {
    expect(new Set(points.map(({ x, y }) => `${x},${y}`)).size).toBe(8);
  });

  it.each(points)('refuses the point of small order with y = $y', ({ x, y }) => {
    const raw = encodePoint(y, x & 1n);
    expect(refusal(() => publicKeyFromRaw(raw))).toMatchObject({
      code: 'untrusted',
      message: expect.stringContaining('small order') as string,
    });
  });

  it.each([
    ['1 with the sign bit for x = 0', 1n, 1n],
    ['-1 with the sign bit for x = 0', 2n ** 255n - 20n, 1n],
  ])('refuses y = %s', (_, y, sign) => {
    expect(refusal(() => publicKeyFromRaw(encodePoint(y, sign))).code).toBe('untrusted');
  });

  it('refuses every y that is not below the prime, with either sign', () => {
    for (let y = 2n ** 255n - 19n; y < 2n ** 255n; y += 1n)
      for (const sign of [0n, 1n])
        expect(refusal(() => publicKeyFromRaw(encodePoint(y, sign)))).toMatchObject({
          code: 'untrusted',
          message: expect.stringContaining('canonical') as string,
        });
  });

  it.each([0, 31, 33])('refuses a key of %i bytes', (length) => {
    expect(refusal(() => publicKeyFromRaw(Buffer.alloc(length, 5))).code).toBe('untrusted');
  });

  it('refuses a key of small order, whether node:crypto takes a signature that no key made or not', () => {
    expect(refusal(() => publicKeyFromRaw(encodePoint(1n, 0n))).code).toBe('untrusted');
  });
});

/** True where node:crypto takes a signature that no key made, under a key of small order; before Node 24 it does. */
function takesSmallOrder(): boolean {
  const identity = encodePoint(1n, 0n);
  const der = Buffer.concat([Buffer.from('302a300506032b6570032100', 'hex'), identity]);
  const key = createPublicKey({ key: der, format: 'der', type: 'spki' });
  const signature = Buffer.concat([identity, Buffer.alloc(32)]);
  return verify(null, Buffer.from('anything'), key, signature);
}

describe('publicKeyFromPem', () => {
  const pem = createPublicKey(vectorKey(a)).export({ format: 'pem', type: 'spki' }).toString();
  const spkiPem = (der: Buffer): string =>
    `-----BEGIN PUBLIC KEY-----\n${der.toString('base64')}\n-----END PUBLIC KEY-----\n`;
  const prefix = Buffer.from('302a300506032b6570032100', 'hex');

  it.each([
    ['as keygen writes it', pem],
    ['with the line ends of Windows', pem.replaceAll('\n', '\r\n')],
    ['without a newline at the end', pem.trimEnd()],
  ])('reads a key %s', (_, text) => {
    expect(publicKeyFromPem(text).id).toBe(a);
  });

  const other = (type: 'x25519' | 'ed448'): string => {
    const { publicKey } =
      type === 'x25519' ? generateKeyPairSync('x25519') : generateKeyPairSync('ed448');
    return publicKey.export({ format: 'pem', type: 'spki' }).toString();
  };
  it.each([
    ['nothing', ''],
    ['a private key', vectorKey(a).export({ format: 'pem', type: 'pkcs8' }).toString()],
    ['X25519', other('x25519')],
    ['Ed448', other('ed448')],
    ['a certificate label', pem.replaceAll('PUBLIC KEY', 'CERTIFICATE')],
    ['two keys', pem + pem],
    ['text before the key', `# our key\n${pem}`],
    ['base64 cut in lines', pem.replace('MCow', 'MCow\n')],
    ['set spare bits', pem.replace(/.=\n/, (end) => (end.startsWith('g') ? 'h=\n' : 'B=\n'))],
    ['one byte too few', spkiPem(Buffer.concat([prefix, Buffer.alloc(31, 5)]))],
    ['one byte too many', spkiPem(Buffer.concat([prefix, Buffer.alloc(33, 5)]))],
    ['a small-order point', spkiPem(Buffer.concat([prefix, encodePoint(1n, 0n)]))],
    ['a non-canonical point', spkiPem(Buffer.concat([prefix, encodePoint(2n ** 255n - 2n, 0n)]))],
  ])('refuses %s', (_, text) => {
    expect(refusal(() => publicKeyFromPem(text)).code).toBe('untrusted');
  });

  it('names a private key as such, without repeating it', () => {
    const text = vectorKey(a).export({ format: 'pem', type: 'pkcs8' }).toString();
    const { message, hint } = refusal(() => publicKeyFromPem(text));
    expect(message).toContain('a private key');
    expect(message + hint).not.toContain(text.split('\n')[1]);
  });
});

describe('signBody', () => {
  it('signs the bytes of docs/announcement.md#signatures', () => {
    const body = encodeBody(fields, vector.signers);
    expect(pageSignedBytes(body).toString('hex')).toBe(vector.signedBytes);
    const signature = signBody(body, vectors.fleet, vectorKey(a));
    expect(Buffer.from(signature)).toEqual(sign(null, pageSignedBytes(body), vectorKey(a)));
  });

  it('refuses a key that is not Ed25519', () => {
    const { privateKey } = generateKeyPairSync('ed448');
    expect(refusal(() => signBody(Buffer.alloc(9), 'example', privateKey)).code).toBe(
      'configuration',
    );
    expect(refusal(() => publicKeyOf(privateKey)).code).toBe('configuration');
  });
});

describe('verifyAnnouncement', () => {
  it.each(vectors.announcements)('accepts the test vector $title', ({ text }) => {
    expect(verdict(decodeAnnouncement(text))).toBe('accepted');
  });

  const twoOfThree = { ...keySet, releaseThreshold: 2 };
  const removed = { ...keySet, releaseKeys: keySet.releaseKeys.filter(({ key }) => key.id !== b) };
  const later = { ...removed, epoch: 8 };
  const asKeySet = { kind: 'keyset' as const, channel: 'keyset', version: fields.epoch + 1 };
  // prettier-ignore
  const cases: [string, SignedAnnouncement, KeySet, string, RegExp?][] = [
    ['the only signer', signed([a]), keySet, 'accepted'],
    ['more signers than needed', signed([a, b, c]), keySet, 'accepted'],
    ['two signers of two', signed([a, c]), twoOfThree, 'accepted'],
    ['one signer of two', signed([a]), twoOfThree, 'untrusted', /1 of the 2 release signatures/],
    ['a channel of the signer', signed([c], { channel: 'acme-hello' }), keySet, 'accepted'],
    ['another channel', signed([c], { channel: 'web' }), keySet, 'untrusted', new RegExp(`${c} .*web`)],
    ['a channel that one signer may not sign for', signed([a, c], { channel: 'web' }), keySet, 'untrusted', new RegExp(c)],
    ['a root key as signer', signed([root]), keySet, 'untrusted', new RegExp(`${root} is not a release key`)],
    ['one signer too many, unknown', signed([a, root]), keySet, 'untrusted', new RegExp(root)],
    ['a key set of a root key', signed([root], asKeySet), keySet, 'accepted'],
    ['a key set of a release key', signed([a], asKeySet), keySet, 'untrusted', new RegExp(`${a} is not a root key`)],
    ['a key set of a root and a release key', signed([a, root], asKeySet), keySet, 'untrusted', new RegExp(a)],
    ['an older epoch', signed([a], { epoch: 1 }), later, 'accepted'],
    ['an older epoch, the key removed', signed([b], { epoch: 1 }), later, 'untrusted', new RegExp(b)],
    ['a later epoch', signed([a], { epoch: 8 }), keySet, 'try-later', /key set 8; this node has 7/],
    ['a later epoch of an unknown key', signed([root], { epoch: 8 }), keySet, 'try-later'],
    ['another fleet', signed([a], {}, 'exampl3'), keySet, 'untrusted', new RegExp(`${a} does not verify`)],
    ['a longer fleet id', signed([a], {}, 'example '), keySet, 'untrusted', new RegExp(a)],
  ];
  it.each(cases)(
    'judges an announcement with %s',
    (_, announcement, trusted, expected, message) => {
      expect(verdict(announcement, trusted)).toBe(expected);
      if (message !== undefined)
        expect(
          refusal(() => {
            verifyAnnouncement(announcement, trusted);
          }).message,
        ).toMatch(message);
    },
  );

  it('hints that the announcement may be for another fleet', () => {
    const { hint } = refusal(() => {
      verifyAnnouncement(signed([a], {}, 'other'), keySet);
    });
    expect(hint).toContain('another fleet than example');
  });

  it.each([0, 1, 2])('refuses a flipped bit in signature %i, and names its signer', (index) => {
    const announcement = signed([a, b, c]);
    for (const byte of [0, 31, 32, 63]) {
      const signatures = announcement.signatures.map((signature) => Uint8Array.from(signature));
      const flipped = signatures[index];
      if (flipped !== undefined) flipped[byte] = (flipped[byte] ?? 0) ^ 1;
      const { code, message } = refusal(() => {
        verifyAnnouncement({ ...announcement, signatures }, keySet);
      });
      expect(code).toBe('untrusted');
      expect(message).toContain(announcement.signers[index]);
    }
  });

  it('refuses signatures in another order, and fewer than signers', () => {
    const announcement = signed([a, b]);
    const { signatures } = announcement;
    expect(verdict({ ...announcement, signatures: signatures.toReversed() })).toBe('untrusted');
    expect(verdict({ ...announcement, signatures: signatures.slice(0, 1) })).toBe('untrusted');
  });

  it('refuses each field of one genuine announcement in another', () => {
    const first = signed([a]);
    const second = signed([a], {
      version: 9,
      created: 1,
      notBefore: 2,
      expires: 3,
      epoch: 2,
      kind: 'environment',
      noop: true,
      rerun: true,
      infoHash: 'ab'.repeat(20),
      sha256: 'cd'.repeat(32),
      length: 28,
      pieceLength: 32_768,
      channel: 'defaulu',
      name: 'hello.pq',
      pieces: Buffer.alloc(20),
    });
    // Up to the signer ids the two are of one length; every differing byte is swapped in alone.
    for (let i = 0; i < first.body.length - 8; i += 1) {
      if (first.body[i] === second.body[i]) continue;
      const body = Uint8Array.from(first.body);
      body[i] = second.body[i] ?? 0;
      expect(verdict({ ...first, body }), `byte ${i}`).toBe('untrusted');
    }
  });

  it('refuses a second form of a good signature, S + L', () => {
    const announcement = signed([a]);
    const signature = announcement.signatures[0] ?? Buffer.alloc(0);
    const s = fromLittleEndian(signature.subarray(32)) + groupOrder;
    const second = Buffer.concat([signature.subarray(0, 32), littleEndian(s)]);
    expect(verdict({ ...announcement, signatures: [second] })).toBe('untrusted');
  });

  it.each([
    ['of small order, which OpenSSL takes', encodePoint(1n, 0n), true],
    ['that is not canonical', encodePoint(2n ** 255n - 18n, 0n), false],
  ])("refuses an R %s, from the key's own holder", (_, r, takenByOpenssl) => {
    const announcement = signed([a]);
    const message = pageSignedBytes(announcement.body);
    const publicKey = createPublicKey(vectorKey(a));
    const raw = publicKey.export({ format: 'der', type: 'spki' }).subarray(-32);
    const seed = Buffer.from(vectors.keys[0]?.seed ?? '', 'hex');
    const secret = createHash('sha512').update(seed).digest().subarray(0, 32);
    const scalar = (fromLittleEndian(secret) & (2n ** 254n - 8n)) | (2n ** 254n);
    const challenge = createHash('sha512').update(r).update(raw).update(message).digest();
    // R is the neutral point, so S = k * a satisfies S * B = R + k * A.
    const s = (fromLittleEndian(challenge) * scalar) % groupOrder;
    const signature = Buffer.concat([r, littleEndian(s)]);
    expect(verify(null, message, publicKey, signature)).toBe(takenByOpenssl && takesSmallOrder());
    expect(verdict({ ...announcement, signatures: [signature] })).toBe('untrusted');
  });

  it('accepts no text that differs in one character from a genuine one', () => {
    const texts = vectors.announcements.map(({ text }) => text);
    const alphabet = Array.from('ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_');
    const character = fc.oneof(
      { weight: 9, arbitrary: fc.constantFrom(...alphabet) },
      fc.constantFrom('=', ' ', '\n', '+', '/', '\0', ''),
    );
    fc.assert(
      fc.property(fc.constantFrom(...texts), fc.nat(900), character, (text, at, replacement) => {
        const index = at % text.length;
        const changed = text.slice(0, index) + replacement + text.slice(index + 1);
        fc.pre(changed !== text);
        const { code } = refusal(() => {
          verifyAnnouncement(decodeAnnouncement(changed), keySet);
        });
        expect(['malformed', 'untrusted', 'try-later']).toContain(code);
      }),
      { numRuns: 500 },
    );
  });
});
