import {
  type Announcement,
  check,
  checkFields,
  checkKnown,
  checkSignerCount,
  checkSigners,
  kindOfNumber,
  wireNumber,
} from './fields.ts';

export interface SignedAnnouncement {
  announcement: Announcement;
  /** Signer ids, 16 lowercase hex digits each, strictly ascending. */
  signers: string[];
  /** All bytes before the signatures. */
  body: Uint8Array;
  /** 64 bytes each, in the signers' order. */
  signatures: Uint8Array[];
}

/** Payload of event `update` that Serf's default limits leave, at any event clock. */
export const defaultPayloadChars = 468;
/** The longest announcement, 675 bytes: it must also fit the response to a Serf query. */
export const maxPayloadChars = 900;
/** The most of a payload that is ever read. */
export const maxInputBytes = 2048;

const format = 1;
const fixedBytes = 87;
const signerIdBytes = 8;
const signatureBytes = 64;
const pieceHashBytes = 20;
const flagNoop = 1;
const flagRerun = 2;

/**
 * Computes the bytes that are left for piece hashes, 20 each.
 *
 * @param options.maxChars of the whole text; more than 900 count as 900
 * @returns a negative number when the announcement does not fit even without pieces, by so many bytes
 */
export function pieceBudget(options: {
  signers: number;
  channel: string;
  name: string;
  target: string;
  maxChars?: number;
}): number {
  const { signers, channel, name, target, maxChars = defaultPayloadChars } = options;
  const maxBytes = Math.floor((Math.min(maxChars, maxPayloadChars) * 3) / 4);
  return maxBytes - wireBytes(signers, channel.length + name.length + target.length);
}

/**
 * Encodes the bytes that get signed: all before the signatures.
 *
 * @param signers ids of the keys that will sign, 1 to 3, 16 hex digits each, strictly ascending
 * @throws UpdateError `malformed` when a field breaks its rule, or when the signed whole would be
 *   longer than 675 bytes
 */
export function encodeBody(a: Announcement, signers: readonly string[]): Uint8Array {
  checkFields(a);
  checkSigners(signers);
  const variableBytes = a.channel.length + a.name.length + a.target.length + a.pieces.length;
  const total = wireBytes(signers.length, variableBytes);
  checkSize(total);

  const body = Buffer.alloc(total - signers.length * signatureBytes);
  body[0] = format;
  body[1] = wireNumber(a.kind);
  body[2] = (a.noop ? flagNoop : 0) | (a.rerun ? flagRerun : 0);
  body[3] = signers.length;
  body.writeUInt32BE(a.epoch, 4);
  body.writeUInt32BE(Math.floor(a.version / 2 ** 32), 8);
  body.writeUInt32BE(a.version % 2 ** 32, 12);
  body.writeUInt32BE(a.created, 16);
  body.writeUInt32BE(a.notBefore, 20);
  body.writeUInt32BE(a.expires, 24);
  body.write(a.infoHash, 28, 'hex');
  body.write(a.sha256, 48, 'hex');
  body.writeUIntBE(a.length, 80, 6);
  body[86] = a.pieceLength === 0 ? 0 : Math.log2(a.pieceLength);
  let offset = fixedBytes;
  for (const text of [a.channel, a.name, a.target]) {
    body[offset] = text.length;
    offset += 1 + body.write(text, offset + 1, 'latin1');
  }
  body[offset] = a.pieces.length / pieceHashBytes;
  body.set(a.pieces, offset + 1);
  body.write(signers.join(''), offset + 1 + a.pieces.length, 'hex');
  return body;
}

/**
 * Joins body and signatures to the text for the wire, base64url without padding (RFC 4648).
 *
 * @param body from `encodeBody`
 * @param signatures 64 bytes each, in the order of the body's signers
 * @throws UpdateError `malformed` when the signatures are not as many as the signers
 */
export function encodeAnnouncement(body: Uint8Array, signatures: readonly Uint8Array[]): string {
  const fits = signatures.every((signature) => signature.length === signatureBytes);
  check(fits && signatures.length === body[3], 'each signer needs one signature of 64 bytes');
  return Buffer.concat([body, ...signatures]).toString('base64url');
}

/**
 * Decodes an announcement (docs/announcement.md). Only the one canonical encoding passes; signatures
 * are parsed, not verified.
 *
 * @param text the payload, without the newline that Serf adds for a handler
 * @throws UpdateError `malformed` for everything else
 */
export function decodeAnnouncement(text: string): SignedAnnouncement {
  check(
    text.length <= maxInputBytes,
    `the payload is longer than ${maxInputBytes} characters`,
    `an announcement has ${maxPayloadChars} at most: send the text that submit printed`,
  );
  const bytes = Buffer.from(text, 'base64url');
  // Node's decoder skips unknown characters and ignores padding and spare bits, so the bytes are
  // encoded again and compared.
  check(
    bytes.toString('base64url') === text,
    'the payload is not base64url without padding',
    'send the text that submit printed, unchanged and whole',
  );

  const reader = new Reader(bytes);
  const formatNumber = reader.uint('format', 1);
  checkKnown(formatNumber === format, `format ${formatNumber}`);
  const kindNumber = reader.uint('kind', 1);
  const kind = kindOfNumber(kindNumber);
  checkKnown(kind !== undefined, `kind ${kindNumber}`);
  const flags = reader.uint('flags', 1);
  checkKnown((flags & ~(flagNoop | flagRerun)) === 0, `a flag of ${flags}`);
  const signerCount = reader.uint('number of signers', 1);
  checkSignerCount(signerCount);

  // In the order of the wire: each read moves the reader on.
  const announcement: Announcement = {
    kind,
    noop: (flags & flagNoop) !== 0,
    rerun: (flags & flagRerun) !== 0,
    epoch: reader.uint('epoch', 4),
    // At 2^53 and above the sum may round, but never to below 2^53, so the range check holds.
    version: reader.uint('version', 4) * 2 ** 32 + reader.uint('version', 4),
    created: reader.uint('created', 4),
    notBefore: reader.uint('not before', 4),
    expires: reader.uint('expires', 4),
    infoHash: reader.hex('info hash', 20),
    sha256: reader.hex('SHA-256', 32),
    length: reader.uint('content length', 6),
    pieceLength: pieceLengthFrom(reader.uint('piece length', 1)),
    channel: reader.text('channel'),
    name: reader.text('name'),
    target: reader.text('target'),
    pieces: reader.take('pieces', reader.uint('number of pieces', 1) * pieceHashBytes),
  };
  const signers = times(signerCount, () => reader.hex('signer ids', signerIdBytes));
  const body = bytes.subarray(0, reader.offset);
  const signatures = times(signerCount, () => reader.take('signatures', signatureBytes));
  const spare = bytes.length - reader.offset;
  check(spare === 0, `${spare} bytes follow the last signature`);

  // The encoder has the rules for sizes and values; encoded again, the fields must be these bytes.
  const canonical = Buffer.from(encodeBody(announcement, signers));
  check(canonical.equals(body), 'the announcement is not in its canonical encoding');
  return { announcement, signers, body, signatures };
}

/** Takes fields off the front, and names the one in which the bytes run out. */
class Reader {
  readonly #bytes: Buffer;
  offset = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  take(field: string, size: number): Buffer {
    const end = this.offset + size;
    check(
      end <= this.#bytes.length,
      `the announcement is cut off in field "${field}": ` +
        `it has ${this.#bytes.length} bytes and the field ends at ${end}`,
      'send the text that submit printed, unchanged and whole',
    );
    const taken = this.#bytes.subarray(this.offset, end);
    this.offset = end;
    return taken;
  }

  /** @param size 1 to 6 bytes */
  uint(field: string, size: number): number {
    return this.take(field, size).readUIntBE(0, size);
  }

  hex(field: string, size: number): string {
    return this.take(field, size).toString('hex');
  }

  /** One byte of length, then the text; Latin-1, so that no byte is lost before the rules see it. */
  text(field: string): string {
    return this.take(field, this.uint(field, 1)).toString('latin1');
  }
}

function checkSize(bytes: number): void {
  const max = Math.floor((maxPayloadChars * 3) / 4);
  check(
    bytes <= max,
    `the announcement is ${bytes - max} bytes over its limit of ${max}`,
    'leave out the pieces, or shorten the name, the channel or the target',
  );
}

/** Size of the whole; the 4 bytes are the lengths of the three texts and the number of pieces. */
function wireBytes(signers: number, variableBytes: number): number {
  return fixedBytes + 4 + (signerIdBytes + signatureBytes) * signers + variableBytes;
}

function pieceLengthFrom(exponent: number): number {
  return exponent === 0 ? 0 : 2 ** exponent;
}

function times<T>(count: number, make: () => T): T[] {
  return Array.from({ length: count }, make);
}
