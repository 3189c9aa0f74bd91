import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  decodeAnnouncement,
  encodeAnnouncement,
  encodeBody,
  maxPayloadChars,
  pieceBudget,
} from '../../../lib/announcement/codec.ts';
import { type Announcement, isChannel, isContentName } from '../../../lib/announcement/fields.ts';
import { signBody } from '../../../lib/trust/verify.ts';
import { refusal } from '../../support/run/refusal.ts';
import { announcements } from './arbitraries.ts';
import { vectorFields, vectorKey, vectors } from './vectors.ts';

const sample: Announcement = {
  kind: 'manifest',
  noop: false,
  rerun: false,
  epoch: 1,
  version: 1_767_225_600,
  created: 1_767_225_600,
  notBefore: 0,
  expires: 1_798_761_600,
  infoHash: '11'.repeat(20),
  sha256: '22'.repeat(32),
  length: 20_000,
  pieceLength: 16_384,
  channel: 'default',
  name: 'site.pp',
  target: 'role=web',
  pieces: Buffer.alloc(40, 3),
};
const withdrawal: Announcement = {
  ...sample,
  kind: 'withdraw',
  infoHash: '00'.repeat(20),
  sha256: '00'.repeat(32),
  length: 0,
  pieceLength: 0,
  pieces: Buffer.alloc(0),
};
const ids = ['00000000000000aa', '00000000000000bb', '00000000000000cc'];

function uint(value: number | bigint, size: number): Buffer {
  return Buffer.from(value.toString(16).padStart(size * 2, '0'), 'hex');
}

function sized(text: string | Buffer): Buffer {
  const bytes = Buffer.from(text);
  return Buffer.concat([uint(bytes.length, 1), bytes]);
}

/** The wire in its parts, made from docs/announcement.md and not by the encoder; tests replace some. */
const parts = {
  format: uint(1, 1),
  kind: uint(1, 1),
  flags: uint(0, 1),
  signerCount: uint(2, 1),
  epoch: uint(1, 4),
  version: uint(5, 8),
  created: uint(1000, 4),
  notBefore: uint(2000, 4),
  expires: uint(3000, 4),
  infoHash: Buffer.alloc(20, 0x11),
  sha256: Buffer.alloc(32, 0x22),
  length: uint(20_000, 6),
  exponent: uint(14, 1),
  channel: sized('default'),
  name: sized('site.pp'),
  target: sized('role=web'),
  pieces: Buffer.concat([uint(2, 1), Buffer.alloc(40, 3)]),
  signers: Buffer.from(ids.slice(0, 2).join(''), 'hex'),
  signatures: Buffer.alloc(128, 4),
};
type Parts = Partial<Record<keyof typeof parts, Buffer>>;

const withdrawParts: Parts = {
  kind: uint(6, 1),
  infoHash: Buffer.alloc(20),
  sha256: Buffer.alloc(32),
  length: uint(0, 6),
  exponent: uint(0, 1),
  pieces: uint(0, 1),
};

function wireBytes(changed: Parts = {}): Buffer {
  return Buffer.concat(Object.values({ ...parts, ...changed }));
}

function wire(changed: Parts = {}): string {
  return wireBytes(changed).toString('base64url');
}

describe('the test vectors of docs/announcement.md', () => {
  it.each(vectors.announcements)('encode to the text of $title', (vector) => {
    const body = encodeBody(vectorFields(vector), vector.signers);
    const signatures = vector.signers.map((id) => signBody(body, vectors.fleet, vectorKey(id)));
    expect(encodeAnnouncement(body, signatures)).toBe(vector.text);
  });

  it.each(vectors.announcements)('decode to the fields of $title', (vector) => {
    const { announcement, signers, signatures } = decodeAnnouncement(vector.text);
    expect({ ...announcement, pieces: Buffer.from(announcement.pieces).toString('hex') }).toEqual(
      vector.fields,
    );
    expect(signers).toEqual(vector.signers);
    expect(signatures).toHaveLength(signers.length);
  });

  it('cover 1, 2 and 3 signers, and a withdrawal', () => {
    const counts = vectors.announcements.map(({ signers }) => signers.length);
    expect(new Set(counts)).toEqual(new Set([1, 2, 3]));
    expect(vectors.announcements.map(({ fields }) => fields.kind)).toContain('withdraw');
  });

  it('have an info dictionary that follows from the first announcement', () => {
    const { content, infoDictionary, infoHash } = vectors.metainfo;
    const fields = vectors.announcements[0]?.fields;
    const name = `${fields?.sha256.slice(0, 32) ?? ''}-${fields?.name ?? ''}`;
    const bencoded = Buffer.concat([
      Buffer.from(`d6:lengthi${content.length}e4:name${name.length}:${name}`),
      Buffer.from(`12:piece lengthi${fields?.pieceLength ?? 0}e6:pieces20:`),
      createHash('sha1').update(content).digest(),
      Buffer.from('e'),
    ]);
    expect(infoDictionary).toBe(bencoded.toString('hex'));
    expect(infoHash).toBe(createHash('sha1').update(bencoded).digest('hex'));
    expect(fields).toMatchObject({
      infoHash,
      length: content.length,
      sha256: createHash('sha256').update(content).digest('hex'),
    });
  });
});

describe('decoding', () => {
  it('decodes every field of bytes that the encoder did not make', () => {
    const { announcement, signers, body, signatures } = decodeAnnouncement(
      wire({ flags: uint(3, 1) }),
    );
    expect(announcement).toMatchObject({
      kind: 'manifest',
      noop: true,
      rerun: true,
      epoch: 1,
      version: 5,
      created: 1000,
      notBefore: 2000,
      expires: 3000,
      infoHash: '11'.repeat(20),
      sha256: '22'.repeat(32),
      length: 20_000,
      pieceLength: 16_384,
      channel: 'default',
      name: 'site.pp',
      target: 'role=web',
    });
    expect(Buffer.from(announcement.pieces)).toEqual(Buffer.alloc(40, 3));
    expect(signers).toEqual(ids.slice(0, 2));
    expect(Buffer.from(body)).toEqual(wireBytes({ flags: uint(3, 1) }).subarray(0, -128));
    expect(signatures.map((signature) => Buffer.from(signature))).toEqual([
      Buffer.alloc(64, 4),
      Buffer.alloc(64, 4),
    ]);
  });

  const limits: [string, Parts][] = [
    ['the lowest epoch', { epoch: uint(0, 4) }],
    ['the highest epoch', { epoch: uint(2 ** 32 - 1, 4) }],
    ['the lowest version', { version: uint(1, 8) }],
    ['the highest version', { version: uint(2n ** 53n - 1n, 8) }],
    ['no piece of content that has some', { pieces: uint(0, 1) }],
    ['the longest content', { length: uint(2 ** 48 - 1, 6), pieces: uint(0, 1) }],
    [
      'content that ends with a piece',
      { length: uint(16_384, 6), pieces: Buffer.concat([uint(1, 1), Buffer.alloc(20)]) },
    ],
    ['the largest piece length', { exponent: uint(24, 1), pieces: uint(0, 1) }],
    ['texts of full length', longTexts('c'.repeat(24), 'N'.repeat(64), `k=${'~'.repeat(62)}`)],
    ['texts of one character, and none', longTexts('0', 'Z', '')],
    ['a withdrawal', withdrawParts],
    ['noop for an environment', { kind: uint(3, 1), flags: uint(1, 1) }],
    ['rerun for any kind', { kind: uint(4, 1), flags: uint(2, 1) }],
  ];
  it.each(limits)('takes %s', (_, changed) => {
    expect(() => decodeAnnouncement(wire(changed))).not.toThrow();
  });

  function longTexts(channel: string, name: string, target: string): Parts {
    return { channel: sized(channel), name: sized(name), target: sized(target) };
  }

  const faults: [string, Parts, RegExp][] = [
    ['format 0', { format: uint(0, 1) }, /format 0 .*newer software needed/],
    ['format 2', { format: uint(2, 1) }, /format 2 .*newer software needed/],
    ['kind 0', { kind: uint(0, 1) }, /kind 0 .*newer software needed/],
    ['kind 7', { kind: uint(7, 1) }, /kind 7 .*newer software needed/],
    ['flag 4', { flags: uint(4, 1) }, /flag.*newer software needed/],
    ['flag 128', { flags: uint(129, 1) }, /flag.*newer software needed/],
    ['noop for a module', { kind: uint(2, 1), flags: uint(1, 1) }, /noop/],
    ['noop for a file', { kind: uint(4, 1), flags: uint(1, 1) }, /noop/],
    ['noop for a key set', { kind: uint(5, 1), flags: uint(1, 1) }, /noop/],
    ['noop for a withdrawal', { ...withdrawParts, flags: uint(1, 1) }, /noop/],
    ['no signer', { signerCount: uint(0, 1) }, /0 signers/],
    ['four signers', { signerCount: uint(4, 1) }, /4 signers/],
    ['version 0', { version: uint(0, 8) }, /version/],
    ['version 2^53', { version: uint(2n ** 53n, 8) }, /version/],
    ['version 2^53+1', { version: uint(2n ** 53n + 1n, 8) }, /version/],
    ['version 2^64-1', { version: uint(2n ** 64n - 1n, 8) }, /version/],
    ['created when it expires', { created: uint(3000, 4) }, /expires.*created/],
    ['not before its expiry', { notBefore: uint(3000, 4) }, /expires.*not before/],
    ['expiry 0', { expires: uint(0, 4) }, /expires/],
    ['a withdrawal with info hash', { ...withdrawParts, infoHash: parts.infoHash }, /hashes/],
    ['a withdrawal with SHA-256', { ...withdrawParts, sha256: parts.sha256 }, /hashes/],
    ['a withdrawal with length', { ...withdrawParts, length: uint(1, 6) }, /content length/],
    ['a withdrawal with piece length', { ...withdrawParts, exponent: uint(14, 1) }, /piece length/],
    ['a withdrawal with pieces', { ...withdrawParts, pieces: parts.pieces }, /pieces/],
    ['length 0', { length: uint(0, 6), pieces: uint(0, 1) }, /content length/],
    ['piece length 0', { exponent: uint(0, 1), pieces: uint(0, 1) }, /piece length/],
    ['piece length 2^13', { exponent: uint(13, 1), pieces: uint(0, 1) }, /piece length/],
    ['piece length 2^25', { exponent: uint(25, 1), pieces: uint(0, 1) }, /piece length/],
    ['piece length 2^255', { exponent: uint(255, 1), pieces: uint(0, 1) }, /piece length/],
    ['no channel', { channel: sized('') }, /channel/],
    ['a channel of 25', { channel: sized('c'.repeat(25)) }, /channel/],
    ['an upper-case channel', { channel: sized('Web') }, /channel/],
    ['a channel with a dot first', { channel: sized('.web') }, /channel/],
    ['a channel with a slash', { channel: sized('a/b') }, /channel/],
    ['a channel with a newline', { channel: sized('web\n') }, /channel/],
    ['a channel that is not ASCII', { channel: sized('caf\u00e9') }, /channel/],
    ['no name', { name: sized('') }, /name/],
    ['a name of 65', { name: sized('n'.repeat(65)) }, /name/],
    ['a name of dots', { name: sized('..') }, /name/],
    ['a name with a dash first', { name: sized('-rf') }, /name/],
    ['a name with a slash', { name: sized('a/b') }, /name/],
    ['a name with NUL', { name: sized('a\0b') }, /name/],
    ['a name with a space', { name: sized('a b') }, /name/],
    ['a target of 65', { target: sized(`k=${'v'.repeat(63)}`) }, /target.* column 65/],
    ['a target with a control character', { target: sized('a=\u001bb') }, /target.* column 3/],
    ['a target with DEL', { target: sized('a=\u007f') }, /target.* column 3/],
    [
      'a target with a high byte',
      { target: sized(Buffer.from('a=\u00a0', 'latin1')) },
      /target.* column 3/,
    ],
    ['a target that breaks the grammar', { target: sized('role=web,db') }, /target.* column 12/],
    ['one piece too few', { pieces: Buffer.concat([uint(1, 1), Buffer.alloc(20)]) }, /1 pieces/],
    ['one piece too many', { pieces: Buffer.concat([uint(3, 1), Buffer.alloc(60)]) }, /3 pieces/],
    ['a repeated signer', { signers: Buffer.from('00000000000000aa'.repeat(2), 'hex') }, /ascend/],
    [
      'signers out of order',
      { signers: Buffer.from('00000000000000bb00000000000000aa', 'hex') },
      /ascend/,
    ],
    ['a byte too many', { signatures: Buffer.alloc(129) }, /1 bytes follow/],
    ['a signature too many', { signatures: Buffer.alloc(192) }, /64 bytes follow/],
    ['a signature too few', { signatures: Buffer.alloc(64) }, /cut off in field "signatures"/],
    [
      'more than 675 bytes',
      { length: uint(25 * 16_384, 6), pieces: Buffer.concat([uint(25, 1), Buffer.alloc(500)]) },
      /82 bytes over its limit of 675/,
    ],
  ];
  it.each(faults)('refuses %s', (_, changed, message) => {
    expect(refusal(() => decodeAnnouncement(wire(changed)))).toMatchObject({
      code: 'malformed',
      message: expect.stringMatching(message) as string,
    });
  });

  const cuts: [number, string][] = [
    [0, 'format'],
    [1, 'kind'],
    [2, 'flags'],
    [3, 'number of signers'],
    [7, 'epoch'],
    [8, 'version'],
    [15, 'version'],
    [16, 'created'],
    [20, 'not before'],
    [27, 'expires'],
    [28, 'info hash'],
    [79, 'SHA-256'],
    [80, 'content length'],
    [86, 'piece length'],
    [87, 'channel'],
    [94, 'channel'],
    [95, 'name'],
    [103, 'target'],
    [112, 'number of pieces'],
    [152, 'pieces'],
    [153, 'signer ids'],
    [169, 'signatures'],
    [296, 'signatures'],
  ];
  it.each(cuts)(
    'names the field of an announcement that is cut off: after %i bytes it is the %s',
    (size, field) => {
      const { code, message } = refusal(() =>
        decodeAnnouncement(wireBytes().subarray(0, size).toString('base64url')),
      );
      expect(code).toBe('malformed');
      expect(message).toContain(`cut off in field "${field}": it has ${size} bytes`);
    },
  );

  it('refuses every prefix of an announcement', () => {
    const whole = wireBytes();
    for (let size = 0; size < whole.length; size += 1)
      expect(
        refusal(() => decodeAnnouncement(whole.subarray(0, size).toString('base64url'))).message,
      ).toContain('cut off');
  });

  // 297 bytes: a multiple of 3, so that neither spare bits nor padding exist; 298 have both.
  const spare = wireBytes({ target: sized('role=web2') }).toString('base64url');
  const texts: [string, string, RegExp][] = [
    ['no text', '', /cut off in field "format"/],
    ['padding', `${spare}==`, /base64url/],
    ['a newline at the end', `${wire()}\n`, /base64url/],
    ['a space in the middle', `${wire().slice(0, 40)} ${wire().slice(40)}`, /base64url/],
    ['the other alphabet of base64', wireBytes({ sha256: Buffer.alloc(32, 0xff) }).toString('base64'), /base64url/], // prettier-ignore
    ['spare bits that are set', `${spare.slice(0, -1)}B`, /base64url/],
    ['one character more than whole bytes', `${wire()}A`, /base64url/],
    ['a character that is not ASCII', `${wire().slice(0, -1)}\u00e9`, /base64url/],
    ['NUL', `${wire()}\0`, /base64url/],
    ['2,049 characters', 'A'.repeat(2049), /longer than 2048/],
    ['10 MB', 'A'.repeat(10_000_000), /longer than 2048/],
  ];
  it.each(texts)('refuses %s', (_, text, message) => {
    expect(refusal(() => decodeAnnouncement(text))).toMatchObject({
      code: 'malformed',
      message: expect.stringMatching(message) as string,
    });
  });

  it('refuses random text with an UpdateError and no other error', () => {
    const plausible = (bytes: Uint8Array): string =>
      Buffer.concat([uint(0x01010001, 4), bytes]).toString('base64url');
    const random = fc.oneof(
      fc.uint8Array({ maxLength: 60 }).map((bytes) => Buffer.from(bytes).toString('latin1')),
      fc.uint8Array({ maxLength: 300 }).map(plausible),
    );
    fc.assert(
      fc.property(random, (text) => {
        expect(refusal(() => decodeAnnouncement(text)).code).toBe('malformed');
      }),
      { numRuns: 200 },
    );
  });

  it('decodes random bytes only where the encoder would make the same ones', () => {
    const byte = fc.integer({ min: 0, max: 255 });
    const change = fc.record({ offset: fc.nat(296), byte });
    fc.assert(
      fc.property(fc.array(change, { minLength: 1, maxLength: 3 }), (changes) => {
        const bytes = wireBytes();
        for (const { offset, byte } of changes) bytes[offset] = byte;
        const text = bytes.toString('base64url');
        try {
          const { announcement, signers, signatures } = decodeAnnouncement(text);
          expect(encodeAnnouncement(encodeBody(announcement, signers), signatures)).toBe(text);
        } catch (error) {
          expect(error).toMatchObject({ name: 'UpdateError', code: 'malformed' });
        }
      }),
      { numRuns: 1000 },
    );
  });
});

describe('encoding', () => {
  it('encodes every announcement so that it decodes to the same fields', () => {
    fc.assert(
      fc.property(announcements, ({ announcement, signers }) => {
        const body = encodeBody(announcement, signers);
        const signatures = signers.map((_, i) => Buffer.alloc(64, i));
        const text = encodeAnnouncement(body, signatures);
        expect(text.length).toBeLessThanOrEqual(maxPayloadChars);
        const decoded = decodeAnnouncement(text);
        expect({ ...decoded.announcement, pieces: null }).toEqual({
          ...announcement,
          pieces: null,
        });
        expect(Buffer.compare(decoded.announcement.pieces, announcement.pieces)).toBe(0);
        expect(decoded.signers).toEqual(signers);
        expect(Buffer.compare(decoded.body, body)).toBe(0);
        expect(Buffer.concat(decoded.signatures)).toEqual(Buffer.concat(signatures));
      }),
      { numRuns: 200 },
    );
  });

  const faults: [string, Partial<Announcement>, RegExp][] = [
    ['a broken epoch', { epoch: 1.5 }, /epoch/],
    ['epoch 2^32', { epoch: 2 ** 32 }, /epoch/],
    ['version NaN', { version: NaN }, /version/],
    ['version 2^53', { version: 2 ** 53 }, /version/],
    ['a time of 2^32', { expires: 2 ** 32 }, /expires/],
    ['a time before 1970', { created: -1 }, /created/],
    ['not before -1', { notBefore: -1 }, /not before/],
    ['an upper-case info hash', { infoHash: 'AB'.repeat(20) }, /info hash/],
    ['a short info hash', { infoHash: '11'.repeat(19) }, /info hash/],
    ['a long SHA-256', { sha256: '22'.repeat(33) }, /SHA-256/],
    ['length 2^48', { length: 2 ** 48 }, /content length/],
    ['half a byte', { length: 0.5 }, /content length/],
    ['a piece length between powers of two', { pieceLength: 20_000 }, /piece length/],
    ['half a piece', { pieces: Buffer.alloc(30) }, /pieces/],
    ['a channel in another script', { channel: '\u0430bc' }, /channel/],
    ['a name in another script', { name: '\u0430bc' }, /name/],
    ['a target in another script', { target: 'role=\u0430' }, /target.* column 6/],
    [
      'more pieces than fit',
      { length: 16_384 * 30, pieces: Buffer.alloc(600) },
      /110 bytes over its limit of 675/,
    ],
  ];
  it.each(faults)('refuses %s', (_, changed, message) => {
    const { code, message: said } = refusal(() =>
      encodeBody({ ...sample, ...changed }, ids.slice(0, 1)),
    );
    expect(code).toBe('malformed');
    expect(said).toMatch(message);
  });

  it.each([
    ['none', []],
    ['four', [...ids, '00000000000000dd']],
    ['one twice', ['00000000000000aa', '00000000000000aa']],
    ['descending', ['00000000000000bb', '00000000000000aa']],
    ['upper case', ['00000000000000AA']],
    ['too short', ['aa']],
  ])('refuses a list of signer ids that is wrong: %s', (_, signers) => {
    const { code, message } = refusal(() => encodeBody(sample, signers));
    expect(code).toBe('malformed');
    expect(message).toMatch(/signer/);
  });

  it('takes an announcement of 675 bytes, and refuses one of 676', () => {
    const full = { ...sample, length: 16_384 * 24, pieces: Buffer.alloc(480), target: '' };
    const text = (name: string): string =>
      encodeAnnouncement(encodeBody({ ...full, name }, ids.slice(0, 1)), [Buffer.alloc(64)]);
    expect(text('n'.repeat(25))).toHaveLength(900);
    expect(refusal(() => text('n'.repeat(26))).message).toContain('1 bytes over');
  });

  it('refuses signatures that are not one for each signer, 64 bytes each', () => {
    const body = encodeBody(withdrawal, ids.slice(0, 2));
    for (const lengths of [[], [64], [64, 63], [64, 64, 64]])
      expect(
        refusal(() =>
          encodeAnnouncement(
            body,
            lengths.map((length) => Buffer.alloc(length)),
          ),
        ).code,
      ).toBe('malformed');
  });
});

describe('pieceBudget', () => {
  const empty = { channel: '', name: '', target: '' };

  it.each([
    [1, 188, 512],
    [2, 116, 440],
    [3, 44, 368],
  ])('leaves with %i signers %i bytes by default, %i at most', (signers, byDefault, atMost) => {
    expect(pieceBudget({ ...empty, signers })).toBe(byDefault);
    expect(pieceBudget({ ...empty, signers, maxChars: 900 })).toBe(atMost);
    expect(pieceBudget({ ...empty, signers, maxChars: 9216 })).toBe(atMost);
  });

  it('agrees with the length that the encoder makes', () => {
    const { channel, name, target } = sample;
    const left = pieceBudget({ signers: 3, channel, name, target, maxChars: 900 });
    const text = encodeAnnouncement(
      encodeBody(sample, ids),
      ids.map(() => Buffer.alloc(64)),
    );
    expect(675 - Buffer.from(text, 'base64url').length).toBe(left - sample.pieces.length);
  });

  it('returns a negative number of bytes when the announcement does not fit', () => {
    expect(pieceBudget({ signers: 3, channel: 'default', name: 'n'.repeat(40), target: '' })).toBe(
      -3,
    );
  });
});

describe('names', () => {
  it.each([
    ['default', true],
    ['0', true],
    ['a.b_c-d', true],
    ['c'.repeat(24), true],
    ['c'.repeat(25), false],
    ['', false],
    ['-a', false],
    ['A', false],
    ['a\n', false],
    ['a b', false],
  ])('isChannel judges %j: %s', (text, expected) => {
    expect(isChannel(text)).toBe(expected);
  });

  it.each([
    ['Site-1.0+b_2.tar.gz', true],
    ['n'.repeat(64), true],
    ['n'.repeat(65), false],
    ['', false],
    ['.profile', false],
    ['-rf', false],
    ['a/b', false],
    ['a\0', false],
    ['a\n', false],
    ['a;b', false],
  ])('isContentName judges %j: %s', (text, expected) => {
    expect(isContentName(text)).toBe(expected);
  });
});
