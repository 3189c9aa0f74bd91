import { describe, expect, it } from 'vitest';
import { makeLoneNode } from '../support/fleet/lone-node.ts';

const now = Math.floor(Date.now() / 1000);

describe('a version far ahead, which would use up all versions', () => {
  it.each([2 ** 53 - 1, now + 2 ** 20 + 100, now * 2])(
    'such as %i is refused, and a normal one still gets in',
    (version) => {
      const node = makeLoneNode();
      const { status, stderr, changed } = node.announce({ version });
      expect({ status, changed }).toEqual({ status: 76, changed: false });
      expect(stderr).toMatch(/error: version \d+ is more than 1048576 above[^]*hint: submit/);
      expect(node.announce({ version: now }).status).toBe(0);
    },
  );

  it('is not helped along by a date: the order is by version alone', () => {
    const node = makeLoneNode();
    expect(node.announce({ version: now, created: now - 86_400 }).status).toBe(0);
    const backdated = node.announce({ version: now - 1, created: now + 500, expires: now + 9000 });
    expect(backdated).toMatchObject({ status: 76, changed: false });
    expect(node.announce({ version: now + 1, created: 1 }).status).toBe(0);
  });

  it('moves by steps at most, each of which a signer must sign', () => {
    const node = makeLoneNode();
    const step = 2 ** 20;
    expect(node.announce({ version: now + step - 5 }).status).toBe(0);
    expect(node.announce({ version: now + 2 * step }).status).toBe(76);
  });
});
