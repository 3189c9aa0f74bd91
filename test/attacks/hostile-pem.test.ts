import { createPublicKey, generateKeyPairSync, type KeyObject, X509Certificate } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { publicKeyFromPem, publicKeyOf } from '../../lib/trust/ed25519.ts';
import { formatKeySet, parseKeySet } from '../../lib/trust/key-set.ts';
import { encodePoint, smallOrderPoints } from '../lib/trust/edwards.ts';
import { makeKeys } from '../support/fleet/announce.ts';
import { refusal } from '../support/run/refusal.ts';

// A hostile .pem: Ed25519 public keys only, in their one form, and none of small order or in a
// non-canonical encoding.

const { publicKey, privateKey } = generateKeyPairSync('ed25519');
const pem = spkiOf(publicKey);
const base64 = pem.split('\n')[1] ?? '';
const ed25519Prefix = Buffer.from('302a300506032b6570032100', 'hex');

function spkiOf(key: KeyObject): string {
  return key.export({ format: 'pem', type: 'spki' }).toString();
}

function pkcs8Of(key: KeyObject): string {
  return key.export({ format: 'pem', type: 'pkcs8' }).toString();
}

function block(label: string, der: Buffer): string {
  const lines = der.toString('base64').replace(/.{64}(?!$)/g, '$&\n');
  return `-----BEGIN ${label}-----\n${lines}\n-----END ${label}-----\n`;
}

/** A public key file as openssl writes it, around any 32 bytes. */
function pemAround(point: Buffer): string {
  return block('PUBLIC KEY', Buffer.concat([ed25519Prefix, point]));
}

/** Changes the bytes of the good key's SPKI. */
function changed(change: (der: Buffer) => Buffer): string {
  return block('PUBLIC KEY', change(Buffer.from(base64, 'base64')));
}

// Self-signed for the name "p2p-update"; its key is an Ed25519 key as well.
const certificate = `-----BEGIN CERTIFICATE-----
MIIBQDCB86ADAgECAhRoOxFPjfvnlAidIHreS5T1Xzs+hjAFBgMrZXAwFTETMBEG
A1UEAwwKcDJwLXVwZGF0ZTAgFw0yNjExMjIyMzI0MTJaGA8yMTI2MTAyOTIzMjQx
MlowFTETMBEGA1UEAwwKcDJwLXVwZGF0ZTAqMAUGAytlcAMhALXIhwuCXqcndvkY
adTUJxeDGMiJaUOI+U3UU6QOh/iQo1MwUTAdBgNVHQ4EFgQUJoyqzrMIublfAOag
6L2q268xv34wHwYDVR0jBBgwFoAUJoyqzrMIublfAOag6L2q268xv34wDwYDVR0T
AQH/BAUwAwEB/zAFBgMrZXADQQATD+d1Cj+nf16L8jHAl0Ktd/e3kjyL2QtxXY6A
YhC1Ee/YWSSUCpWYIJ9s7ZI/iHzP4xlnD5DiWDLLtPS/T/wN
-----END CERTIFICATE-----
`;

const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 });
const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const encrypted = privateKey.export({
  format: 'pem',
  type: 'pkcs8',
  cipher: 'aes-256-cbc',
  passphrase: 'secret',
});

const otherTypes: [string, string][] = [
  ['RSA', spkiOf(rsa.publicKey)],
  ['RSA in PKCS #1', rsa.publicKey.export({ format: 'pem', type: 'pkcs1' }).toString()],
  ['RSA-PSS', spkiOf(generateKeyPairSync('rsa-pss', { modulusLength: 2048 }).publicKey)],
  ['EC, P-256', spkiOf(ec.publicKey)],
  ['EC, secp256k1', spkiOf(generateKeyPairSync('ec', { namedCurve: 'secp256k1' }).publicKey)],
  ['X25519', spkiOf(generateKeyPairSync('x25519').publicKey)],
  ['X448', spkiOf(generateKeyPairSync('x448').publicKey)],
  ['Ed448', spkiOf(generateKeyPairSync('ed448').publicKey)],
  ['X25519, with the point of the Ed25519 key', changed((der) => replaceByte(der, 8, 0x6e))],
  ['a certificate', certificate],
  [
    'the public key under a certificate’s label',
    block('CERTIFICATE', Buffer.from(base64, 'base64')),
  ],
];

const privateKeys: [string, string][] = [
  ['an Ed25519 private key', pkcs8Of(privateKey)],
  ['an encrypted private key', encrypted.toString()],
  ['an EC private key', ec.privateKey.export({ format: 'pem', type: 'sec1' }).toString()],
  ['an RSA private key', rsa.privateKey.export({ format: 'pem', type: 'pkcs1' }).toString()],
  ['a private key after the public one', pem + pkcs8Of(privateKey)],
  ['a private key before the public one', pkcs8Of(privateKey) + pem],
];

const otherForms: [string, string][] = [
  ['nothing', ''],
  ['a newline', '\n'],
  ['two public keys', pem + pem],
  ['text before the key', `# our key\n${pem}`],
  ['a byte order mark', `\ufeff${pem}`],
  ['text after the key', `${pem}# our key\n`],
  ['NUL after the key', `${pem}\0`],
  ['NUL in the key', pem.replace(base64, `${base64.slice(0, 20)}\0${base64.slice(21)}`)],
  ['NUL before the key', `\0${pem}`],
  ['a lower-case label', pem.replaceAll('PUBLIC KEY', 'public key')],
  ['a label in mixed case', pem.replaceAll('PUBLIC KEY', 'Public Key')],
  ['two labels', pem.replace('END PUBLIC KEY', 'END CERTIFICATE')],
  ['four dashes', pem.replaceAll('-----', '----')],
  ['no line of its own for the end', pem.replace('\n-----END', '-----END')],
  ['a header in the manner of RFC 1421', pem.replace('\n', '\nProc-Type: 4,ENCRYPTED\n\n')],
  ['base64 cut in lines', pem.replace('MCow', 'MCow\n')],
  ['base64 with a space', pem.replace('MCow', 'MCow ')],
  ['the URL alphabet', pem.replace(base64, `${base64.slice(0, 40)}-_${base64.slice(42)}`)],
  ['no padding', pem.replace('=\n', '\n')],
  ['set spare bits', pem.replace(base64, spareBit(base64))],
  ['one byte missing', changed((der) => der.subarray(0, -1))],
  ['one byte more', changed((der) => Buffer.concat([der, Buffer.alloc(1)]))],
  ['a longer length in DER', changed((der) => replaceByte(der, 1, 0x2b))],
  ['an indefinite length in DER', changed((der) => replaceByte(der, 1, 0x80))],
  ['parameters beside the OID', changed((der) => replaceByte(der, 2, 0x31))],
  ['unused bits in the bit string', changed((der) => replaceByte(der, 11, 1))],
  ['only the DER', Buffer.from(base64, 'base64').toString('latin1')],
  ['only the base64', base64],
  ['an OpenSSH key', `ssh-ed25519 ${base64} somebody`],
  ['10 MB of nothing', ' '.repeat(10_000_000)],
  ['10 MB of base64', pem.replace(base64, base64.repeat(166_667))],
  ['10 MB after the key', pem + 'A'.repeat(10_000_000)],
  ['10 MB of white space and then text', `${pem}${'\n'.repeat(10_000_000)}A`],
  ['100,000 keys', pem.repeat(100_000)],
];

function replaceByte(der: Buffer, at: number, byte: number): Buffer {
  const copy = Buffer.from(der);
  copy[at] = byte;
  return copy;
}

/** The same bytes in base64 with one of the two bits set that the last character has to spare. */
function spareBit(text: string): string {
  const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/';
  const last = alphabet[alphabet.indexOf(text.at(-2) ?? '') | 1] ?? '';
  return `${text.slice(0, -2)}${last}=`;
}

function expectRefused(text: string, message: RegExp): void {
  const start = performance.now();
  const error = refusal(() => publicKeyFromPem(text));
  expect(error.code).toBe('untrusted');
  expect(error.message).toMatch(message);
  expect(error.hint).toMatch(/^[a-z].{10,}/);
  // Linear in the size: a quadratic pattern would take minutes on the largest.
  expect(performance.now() - start).toBeLessThan(10_000);
}

describe('a public key file', () => {
  it.each([
    ['as openssl writes it', pem],
    ['with the line ends of Windows', pem.replaceAll('\n', '\r\n')],
    ['without the last newline', pem.trimEnd()],
  ])('is read %s', (_, text) => {
    expect(publicKeyFromPem(text)).toEqual(publicKeyOf(publicKey));
  });

  it('would be taken by node:crypto in many of these forms', () => {
    for (const text of [pem + pem, `# our key\n${pem}`, pkcs8Of(privateKey), certificate])
      expect(createPublicKey(text).asymmetricKeyType).toBe('ed25519');
    expect(new X509Certificate(certificate).subject).toBe('CN=p2p-update');
  });

  it.each(otherTypes)('is refused: %s', (_, text) => {
    expectRefused(text, /not an Ed25519 public key in PEM/);
  });

  it.each(privateKeys)('is refused, and not repeated: %s', (_, text) => {
    expectRefused(text, /a private key/);
    const { message, hint } = refusal(() => publicKeyFromPem(text));
    for (const line of text.split('\n').filter((part) => /^[A-Za-z0-9+/=]{20,}$/.test(part)))
      expect(message + hint).not.toContain(line);
  });

  it.each(otherForms)('is refused: %s', (_, text) => {
    expectRefused(text, /not an Ed25519 public key in PEM/);
  });

  const points = smallOrderPoints().map(({ x, y }, i) => ({ i, raw: encodePoint(y, x & 1n) }));
  it.each(points)('is refused in a valid file when it is point $i of small order', ({ raw }) => {
    expectRefused(pemAround(raw), /a point of small order/);
    expect(createPublicKey(pemAround(raw)).asymmetricKeyType).toBe('ed25519');
  });

  it.each([0, 1, 2, 3, 9, 18])(
    'is refused in a valid file: y = p + %i, with either sign',
    (more) => {
      for (const sign of [0n, 1n]) {
        const raw = encodePoint(2n ** 255n - 19n + BigInt(more), sign);
        expectRefused(pemAround(raw), /not in its canonical encoding/);
      }
    },
  );
});

describe('a key set', () => {
  const { keySet } = makeKeys();
  const text = formatKeySet(keySet);
  const [own] = keySet.releaseKeys;
  const hex = Buffer.from(own?.key.raw ?? []).toString('hex');

  it.each(smallOrderPoints().map(({ x, y }, i) => ({ i, raw: encodePoint(y, x & 1n) })))(
    'is refused with point $i of small order in it',
    ({ raw }) => {
      expect(parseKeySet(text).releaseKeys).toHaveLength(1);
      const { code } = refusal(() => parseKeySet(text.replace(hex, raw.toString('hex'))));
      expect(code).toBe('untrusted');
    },
  );
});
