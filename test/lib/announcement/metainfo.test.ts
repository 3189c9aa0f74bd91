import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import {
  buildMetainfo,
  choosePieceLength,
  computeInfoHash,
  contentFileName,
  magnetUri,
} from '../../../lib/announcement/metainfo.ts';

const kiB = 1024;
const miB = 1024 * kiB;

const content = {
  length: 20_000,
  sha256: '0123456789abcdef'.repeat(4),
  name: 'site.pp',
  pieceLength: 16_384,
  pieces: Buffer.from('a'.repeat(20) + '\0'.repeat(20)),
};

describe('contentFileName', () => {
  it('joins the first half of the SHA-256 and the name', () => {
    expect(contentFileName(content)).toBe('0123456789abcdef0123456789abcdef-site.pp');
  });
});

describe('choosePieceLength', () => {
  it.each([
    // The budgets are those of one, two and three signers.
    ['one byte', 1, 188, 16 * kiB],
    ['nine pieces of 16 KiB', 9 * 16 * kiB, 188, 16 * kiB],
    ['one byte more than that', 9 * 16 * kiB + 1, 188, 32 * kiB],
    ['1 MiB, one signer', miB, 188, 128 * kiB],
    ['1 MiB, two signers', miB, 116, 256 * kiB],
    ['1 MiB, three signers', miB, 44, 512 * kiB],
    ['nine pieces of 1 MiB', 9 * miB, 188, miB],
    ['one byte more: the metadata travels in the swarm', 9 * miB + 1, 188, 64 * kiB],
    ['a budget without room for a piece', 1, 19, 64 * kiB],
    ['a budget that is overdrawn', 1, -3, 64 * kiB],
    ['one block of metadata', 51 * miB, 188, 64 * kiB],
    ['more than one block of metadata', 52 * miB, 188, 128 * kiB],
    ['300 MiB', 300 * miB, 188, 256 * kiB],
    ['12 GiB', 12 * 1024 * miB, 188, 256 * kiB],
    ['more than 1 MB of metadata', 13 * 1024 * miB, 188, 512 * kiB],
    ['the longest content that an announcement can express', 2 ** 48 - 1, 188, 16 * miB],
  ])('chooses the piece length for %s', (_, length, budget, expected) => {
    expect(choosePieceLength(length, budget)).toBe(expected);
  });
});

describe('the metainfo', () => {
  it('has the four keys of BEP 3, sorted, and nothing around them', () => {
    const info =
      'd6:lengthi20000e4:name40:0123456789abcdef0123456789abcdef-site.pp' +
      `12:piece lengthi16384e6:pieces40:${'a'.repeat(20)}${'\0'.repeat(20)}e`;
    expect(buildMetainfo(content).toString('latin1')).toBe(`d4:info${info}e`);
    expect(computeInfoHash(content)).toBe(createHash('sha1').update(info).digest('hex'));
  });

  it.each([
    ['length', { length: 20_001 }],
    ['content', { sha256: 'f'.repeat(64) }],
    ['name', { name: 'other.pp' }],
    ['piece length', { pieceLength: 32_768 }],
    ['pieces', { pieces: Buffer.alloc(40) }],
  ])('has another info hash when the %s is another', (_, change) => {
    expect(computeInfoHash({ ...content, ...change })).not.toBe(computeInfoHash(content));
  });
});

it('makes a magnet link with the info hash and no tracker', () => {
  const infoHash = 'c'.repeat(40);
  expect(magnetUri({ infoHash })).toBe(`magnet:?xt=urn:btih:${infoHash}`);
});
