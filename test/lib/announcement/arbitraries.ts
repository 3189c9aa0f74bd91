import fc from 'fast-check';
import type { Announcement } from '../../../lib/announcement/fields.ts';

const uint32 = fc.integer({ min: 0, max: 2 ** 32 - 1 });
const text = (first: string, others: string, max: number): fc.Arbitrary<string> => {
  const oneOf = (characters: string) => fc.constantFrom(...Array.from(characters));
  const rest = fc.string({ unit: oneOf(first + others), maxLength: max - 1 });
  return fc.tuple(oneOf(first), rest).map((pair) => pair.join(''));
};
const lower = 'abcxyz019';
const printable = Array.from({ length: 95 }, (_, i) => String.fromCharCode(32 + i));
const bytes = (length: number): fc.Arbitrary<Uint8Array> =>
  fc.uint8Array({ minLength: length, maxLength: length });
const hex = (length: number): fc.Arbitrary<string> =>
  bytes(length).map((value) => Buffer.from(value).toString('hex'));

const anyOf = (characters: string[]): fc.Arbitrary<string> => fc.constantFrom(...characters);
const share = fc.integer({ min: 1, max: 10_000 }).map((hundredths) => `share=${hundredths / 100}%`);
const tagKey = fc.oneof(anyOf(['node', 'a', 'b']), text('aZ0._-', '', 6));
const tagValue = text('abc', ' _~"%', 8).map((letters) => letters.trim());
const tagTest = fc
  .tuple(tagKey, fc.array(tagValue, { minLength: 1, maxLength: 3 }))
  .map(([key, values]) => `${key}=${values.join('|')}`);
const condition = fc
  .tuple(anyOf(['', '!']), fc.oneof(share, tagTest))
  .map(([negation, positive]) => negation + positive);
const longestTarget = fc
  .string({
    unit: anyOf(printable.filter((character) => !' !,=|'.includes(character))),
    minLength: 62,
    maxLength: 62,
  })
  .map((letters) => `k=${letters}`);

/** Every kind of target that the grammar allows, up to its 64 characters. */
export const targets: fc.Arbitrary<string> = fc.oneof(
  {
    weight: 9,
    arbitrary: fc.array(condition, { maxLength: 6 }).map((conditions) =>
      conditions.reduce((target, next) => {
        const longer = target === '' ? next : `${target},${next}`;
        return longer.length > 64 ? target : longer;
      }, ''),
    ),
  },
  longestTarget,
);

const signed = fc.record({
  epoch: uint32,
  version: fc.maxSafeNat().map((value) => Math.max(1, value)),
  times: fc.uniqueArray(uint32, { minLength: 3, maxLength: 3 }).map((t) => t.sort((a, b) => a - b)),
  channel: text(lower, '._-', 24),
  name: text(`${lower}ABZ`, '._+-', 64),
  target: targets,
  rerun: fc.boolean(),
  noop: fc.boolean(),
});
const content = fc
  .record({
    kind: fc.constantFrom('manifest', 'module', 'environment', 'file', 'keyset'),
    infoHash: hex(20),
    sha256: hex(32),
    exponent: fc.integer({ min: 14, max: 24 }),
    length: fc.integer({ min: 1, max: 2 ** 48 - 1 }),
    /** As many as fit into 675 bytes beside 3 signers and the longest texts; 0 leaves the length free. */
    pieceCount: fc.integer({ min: 0, max: 10 }),
  })
  .chain(({ exponent, pieceCount, length, ...rest }) => {
    const pieceLength = 2 ** exponent;
    const lastPiece = (length % pieceLength) + 1;
    return bytes(20 * pieceCount).map((pieces) => ({
      ...rest,
      pieceLength,
      length: pieceCount === 0 ? length : (pieceCount - 1) * pieceLength + lastPiece,
      pieces,
    }));
  });
const withdrawal = fc.constant({
  kind: 'withdraw' as const,
  infoHash: '0'.repeat(40),
  sha256: '0'.repeat(64),
  pieceLength: 0,
  length: 0,
  pieces: new Uint8Array(),
});

/** Every announcement that may be sent, with its signers. */
export const announcements: fc.Arbitrary<{ announcement: Announcement; signers: string[] }> =
  fc.record({
    announcement: fc
      .tuple(signed, fc.oneof({ weight: 5, arbitrary: content }, withdrawal))
      .map(([{ times, noop, ...fields }, what]) => {
        const [created = 0, notBefore = 0, expires = 0] = times;
        const mayTry = what.kind === 'manifest' || what.kind === 'environment';
        const announcement = { ...fields, ...what, created, notBefore, expires };
        if (what.kind !== 'keyset') return { ...announcement, noop: noop && mayTry };
        const order = { channel: 'keyset', version: fields.epoch + 1 };
        return { ...announcement, ...order, target: '', rerun: false, noop: false };
      }),
    signers: fc.uniqueArray(hex(8), { minLength: 1, maxLength: 3 }).map((ids) => ids.sort()),
  });
