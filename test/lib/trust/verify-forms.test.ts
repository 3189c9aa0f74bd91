import { createHash, createPrivateKey, sign } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { isGoodSignature, publicKeyFromRaw, publicKeyOf } from '../../../lib/trust/ed25519.ts';
import { refusal } from '../../support/run/refusal.ts';
import {
  encodePoint,
  fromLittleEndian,
  groupOrder,
  littleEndian,
  mixedOrderKeys,
  smallOrderPoints,
} from './edwards.ts';

// The cases of Wycheproof's vectors (wycheproof.test.ts), made from RFC 8032, section 5.1.

const fieldPrime = 2n ** 255n - 19n;
const message = Buffer.from('p2p-update');

/** RFC 8032, section 7.1: secret key, public key, message, signature. */
const rfcVectors: [string, string, string, string, string][] = [
  [
    'TEST 1',
    '9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60',
    'd75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a',
    '',
    'e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b',
  ],
  [
    'TEST 2',
    '4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb',
    '3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c',
    '72',
    '92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00',
  ],
  [
    'TEST 3',
    'c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7',
    'fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025',
    'af82',
    '6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a',
  ],
];

function privateKey(seed: string) {
  // RFC 8410: a PKCS#8 PrivateKeyInfo that holds the seed of RFC 8032.
  const der = Buffer.from(`302e020100300506032b657004220420${seed}`, 'hex');
  return createPrivateKey({ key: der, format: 'der', type: 'pkcs8' });
}

const seed = '42'.repeat(32);
const secret = privateKey(seed);
const key = publicKeyOf(secret);
const genuine = sign(null, message, secret);
const [r, s] = [genuine.subarray(0, 32), fromLittleEndian(genuine.subarray(32))];
const expanded = createHash('sha512').update(Buffer.from(seed, 'hex')).digest();
const scalar = (fromLittleEndian(expanded.subarray(0, 32)) & (2n ** 254n - 8n)) | (2n ** 254n);
const nonce = sha512(expanded.subarray(32), message);

function sha512(...parts: Uint8Array[]): bigint {
  return fromLittleEndian(createHash('sha512').update(Buffer.concat(parts)).digest()) % groupOrder;
}

/** S as the key's own holder makes it for a given encoding of R, whose logarithm is `log`. */
function signWith(encodedR: Uint8Array, log: bigint, raw: Uint8Array = key.raw): Buffer {
  const challenge = sha512(encodedR, raw, message);
  return Buffer.concat([encodedR, littleEndian((log + challenge * scalar) % groupOrder)]);
}

const smallOrder = smallOrderPoints().map(({ x, y }, index) => ({
  name: `point ${index + 1} of small order`,
  encoded: encodePoint(y, x & 1n),
}));
/** y of p to 2^255-1 with either sign, and 1 and -1 with the sign of an x that is 0. */
const nonCanonical = [
  ...Array.from({ length: 19 }, (_, i) => fieldPrime + BigInt(i)).flatMap((y) =>
    [0n, 1n].map((sign) => ({ name: `p + ${y - fieldPrime}, sign ${sign}`, y, sign })),
  ),
  { name: '1, sign 1', y: 1n, sign: 1n },
  { name: '-1, sign 1', y: fieldPrime - 1n, sign: 1n },
].map(({ name, y, sign }) => ({ name: `y = ${name}`, encoded: encodePoint(y, sign) }));
const badPoints = [...smallOrder, ...nonCanonical];

describe('a signature', () => {
  it.each(rfcVectors)(
    'is good when it is %s of RFC 8032',
    (_, seedHex, publicKey, text, signature) => {
      const known = publicKeyFromRaw(Buffer.from(publicKey, 'hex'));
      expect(publicKeyOf(privateKey(seedHex))).toEqual(known);
      const bytes = Buffer.from(text, 'hex');
      expect(isGoodSignature(bytes, known, Buffer.from(signature, 'hex'))).toBe(true);
      expect(isGoodSignature(Buffer.concat([bytes, bytes, r]), known, genuine)).toBe(false);
    },
  );

  it('is good when made by our own arithmetic, as in the cases below', () => {
    expect(signWith(r, nonce)).toEqual(genuine);
    expect(isGoodSignature(message, key, genuine)).toBe(true);
  });

  it('is refused with any one bit flipped', () => {
    for (let bit = 0; bit < 512; bit += 1) {
      const flipped = Buffer.from(genuine);
      flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      expect(isGoodSignature(message, key, flipped), `bit ${bit}`).toBe(false);
    }
  });

  it('is refused with any bit of R flipped and S made anew for it', () => {
    for (let bit = 0; bit < 256; bit += 1) {
      const flipped = Buffer.from(r);
      flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      const signature = signWith(flipped, nonce);
      expect(isGoodSignature(message, key, signature), `bit ${bit}`).toBe(false);
    }
  });

  it('is refused at every other length', () => {
    const long = Buffer.concat([genuine, key.raw, Buffer.alloc(160)]);
    for (let length = 0; length < long.length; length += 1)
      if (length !== 64)
        expect(isGoodSignature(message, key, long.subarray(0, length)), `${length}`).toBe(false);
  });

  it.each<[string, Buffer]>([
    ['a zero before R', Buffer.concat([Buffer.alloc(1), genuine])],
    ['a zero before S', Buffer.concat([r, Buffer.alloc(1), genuine.subarray(32)])],
    ['a byte of R missing', Buffer.concat([genuine.subarray(1)])],
    ['a byte of S missing', Buffer.concat([r, genuine.subarray(33)])],
  ])('is refused with %s', (_, signature) => {
    expect(isGoodSignature(message, key, signature)).toBe(false);
  });

  const others: [string, bigint][] = [
    ...Array.from({ length: 15 }, (_, i): [string, bigint] => [
      `S + ${i + 1} L`,
      s + groupOrder * BigInt(i + 1),
    ]),
    ['S + 2^253', s + 2n ** 253n],
    ['S + 2^254', s + 2n ** 254n],
    ['S + 2^255', s + 2n ** 255n],
    ['S + p', s + fieldPrime],
    ['-S', groupOrder - s],
    ['S + 1', s + 1n],
  ];
  it.each(others.filter(([, value]) => value < 2n ** 256n))('is refused with %s', (_, value) => {
    const signature = Buffer.concat([r, littleEndian(value)]);
    expect(isGoodSignature(message, key, signature)).toBe(false);
  });

  const special = [0n, 1n, groupOrder - 1n, groupOrder, fieldPrime - 1n, fieldPrime, 2n ** 255n];
  it.each(special.flatMap((a) => special.map((b) => [a, b])))(
    'is refused with R %i and S %i',
    (a, b) => {
      const signature = Buffer.concat([littleEndian(a), littleEndian(b)]);
      expect(isGoodSignature(message, key, signature)).toBe(false);
    },
  );

  it.each(badPoints)("is refused with the $name as R, from the key's own holder", ({ encoded }) => {
    expect(isGoodSignature(message, key, signWith(encoded, 0n))).toBe(false);
  });
});

describe('a public key', () => {
  it('has 48 different encodings that must be refused', () => {
    expect(new Set(badPoints.map(({ encoded }) => encoded.toString('hex'))).size).toBe(48);
  });

  it.each(badPoints)('is refused when it is the $name', ({ encoded }) => {
    expect(refusal(() => publicKeyFromRaw(encoded)).code).toBe('untrusted');
  });

  // Such a key passes: only the holder of the scalar can sign under it, for one message in two, four
  // or eight, and the signature of another message is no more valid than under an honest key. To
  // tell them apart takes a multiplication on the curve, which node:crypto does not offer.
  it.each(mixedOrderKeys(key.raw).map((raw, i) => ({ raw, i })))(
    'passes when it is of mixed order, and verifies no signature of another key: $i',
    ({ raw }) => {
      const mixed = publicKeyFromRaw(raw);
      expect(mixed.id).not.toBe(key.id);
      expect(isGoodSignature(message, mixed, genuine)).toBe(false);
      expect(isGoodSignature(Buffer.from('other'), mixed, signWith(r, nonce, raw))).toBe(false);
    },
  );
});
