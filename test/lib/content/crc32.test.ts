import { crc32 as reference } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { crc32 } from '../../../lib/content/crc32.ts';

describe('crc32', () => {
  it('has the check value of CRC-32/ISO-HDLC', () => {
    expect(crc32(Buffer.from('123456789'), 0)).toBe(0xcbf43926);
  });

  it('is that of zlib, in one piece and in several', () => {
    const bytes = Buffer.from(Array.from({ length: 100_000 }, (_, i) => (i * i + 7) % 256));
    for (const length of [0, 1, 255, 256, 65_537, bytes.length]) {
      const whole = bytes.subarray(0, length);
      expect(crc32(whole, 0)).toBe(reference(whole));
      const half = Math.floor(length / 3);
      expect(crc32(whole.subarray(half), crc32(whole.subarray(0, half), 0))).toBe(reference(whole));
    }
  });
});
