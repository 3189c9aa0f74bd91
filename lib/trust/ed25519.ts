import { createHash, createPublicKey, type KeyObject, verify } from 'node:crypto';
import { UpdateError } from '../errors.ts';

/** An Ed25519 public key that has passed {@link publicKeyFromRaw}. */
export interface PublicKey {
  /** The signer id: the first 8 bytes of the SHA-256 of the SPKI DER, 16 lowercase hex digits. */
  id: string;
  /** RFC 8032's encoding of the point, 32 bytes. */
  raw: Uint8Array;
}

/** The part of an Ed25519 SubjectPublicKeyInfo before the 32 bytes of the point (RFC 8410, section 4). */
const spkiPrefix = Buffer.from('302a300506032b6570032100', 'hex');

const signatureBytes = 64;

// Numbers of RFC 8032, big-endian: hex digits of one length compare as the numbers do.
/** The prime of the field, 2^255-19. */
const fieldPrime = '7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffed';

/** The order of the base point, L. */
const groupOrder = '1000000000000000000000000000000014def9dea2f79cd65812631a5cf5d3ed';

/** The y of the eight points whose order divides 8; two points share each, but the second and third. */
const smallOrderYs = [
  '0000000000000000000000000000000000000000000000000000000000000000',
  '0000000000000000000000000000000000000000000000000000000000000001',
  '7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffec',
  '05fc536d880238b13933c6d305acdfd5f098eff289f4c345b027b2c28f95e826',
  '7a03ac9277fdc74ec6cc392cfa53202a0f67100d760b3cba4fd84d3d706a17c7',
];

/**
 * Checks and names a public key.
 *
 * @param raw RFC 8032's encoding of the point, 32 bytes
 * @throws UpdateError `untrusted` for a point of small order or an encoding that is not canonical
 */
export function publicKeyFromRaw(raw: Uint8Array): PublicKey {
  const fault = raw.length === 32 ? pointFault(raw) : 'not 32 bytes long';
  // With such a key anyone can make a signature that holds for many or all messages. OpenSSL takes
  // these keys, so they are refused by their bytes, before it sees them.
  if (fault !== undefined)
    throw new UpdateError('untrusted', `this Ed25519 public key is ${fault}`, {
      hint: 'it cannot come from an honest key generator: ask its owner, or make one with keygen',
    });
  return { id: createHash('sha256').update(spki(raw)).digest('hex').slice(0, 16), raw };
}

/**
 * Reads a public key file as keygen and `openssl pkey -pubout` write it.
 *
 * @param pem one PEM block `PUBLIC KEY` and nothing else
 * @throws UpdateError `untrusted` for anything but a sound Ed25519 key
 */
export function publicKeyFromPem(pem: string): PublicKey {
  // An Ed25519 SPKI is 44 bytes, always one line of 60 characters. Read by pattern, no hostile file
  // reaches OpenSSL's decoders, which would also take private keys, certificates and other types.
  const block =
    /^-----BEGIN PUBLIC KEY-----\r?\n([A-Za-z0-9+/]{59}=)\r?\n-----END PUBLIC KEY-----\s*$/;
  const base64 = block.exec(pem)?.[1] ?? '';
  const der = Buffer.from(base64, 'base64');
  const raw = der.subarray(spkiPrefix.length);
  if (!spki(raw).equals(der) || der.toString('base64') !== base64 || raw.length !== 32) {
    const found = pem.includes('PRIVATE KEY')
      ? 'a private key'
      : 'not an Ed25519 public key in PEM';
    throw new UpdateError('untrusted', `this file is ${found}`, {
      hint: 'give the .pub file that keygen made',
    });
  }
  return publicKeyFromRaw(raw);
}

/**
 * Takes the public key out of a key object, which may also be the private key.
 *
 * @throws UpdateError `configuration` unless it is an Ed25519 key
 */
export function publicKeyOf(key: KeyObject): PublicKey {
  requireEd25519(key);
  const publicKey = key.type === 'private' ? createPublicKey(key) : key;
  const der = publicKey.export({ format: 'der', type: 'spki' });
  return publicKeyFromRaw(der.subarray(spkiPrefix.length));
}

/**
 * True when a signature is Ed25519's over a message, in the one form that is accepted
 * (docs/announcement.md#signatures).
 *
 * OpenSSL 3.0 refuses S >= L and a non-canonical R by itself, but takes an R of small order, which
 * only the key's holder can make. All three are checked here, so that every version of OpenSSL and
 * every other implementation of that page gives one verdict, and no signature has a second form.
 *
 * @param message the signed bytes, whole
 * @param signature of any length; only 64 bytes can be good
 */
export function isGoodSignature(
  message: Uint8Array,
  key: PublicKey,
  signature: Uint8Array,
): boolean {
  if (signature.length !== signatureBytes) return false;
  const r = signature.subarray(0, 32);
  const s = signature.subarray(32);
  if (pointFault(r) !== undefined || bigEndianHex(s) >= groupOrder) return false;
  // Not by DER, whose decoder takes ten times as long (RFC 8037 has the JWK).
  const x = Buffer.from(key.raw).toString('base64url');
  const publicKey = createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x }, format: 'jwk' });
  return verify(null, message, publicKey, signature);
}

/** The reason to refuse the encoding of a point; undefined when there is none. */
function pointFault(encoded: Uint8Array): string | undefined {
  const littleEndianY = Buffer.from(encoded);
  // The top bit is the sign of x (RFC 8032, section 5.1.2). Without it the table also covers the
  // encodings with a sign where x is 0.
  littleEndianY.writeUInt8(littleEndianY.readUInt8(31) & 0x7f, 31);
  const y = bigEndianHex(littleEndianY);
  if (y >= fieldPrime) return 'not in its canonical encoding';
  return smallOrderYs.includes(y) ? 'a point of small order' : undefined;
}

function bigEndianHex(littleEndian: Uint8Array): string {
  return Buffer.from(littleEndian).reverse().toString('hex');
}

function spki(raw: Uint8Array): Buffer {
  return Buffer.concat([spkiPrefix, raw]);
}

/**
 * Checks that a signing key is an Ed25519 key.
 *
 * @throws UpdateError `configuration`
 */
export function requireEd25519(key: KeyObject): void {
  if (key.asymmetricKeyType !== 'ed25519')
    throw new UpdateError('configuration', 'a signing key must be an Ed25519 key', {
      hint: 'make one with keygen and name its file in signingKeyFiles',
    });
}
