import { describe, expect, it } from 'vitest';
import { runRandomKills } from '../crash/random-kills.ts';

describe('random kills over the whole chain', () => {
  it('lose no update, repeat none, and two reconciles make up for them', async () => {
    const options = { short: true, seed: 1, only: undefined, onProgress: undefined };
    const { count, failures } = await runRandomKills(options);
    expect(failures).toEqual([]);
    expect(count).toBeGreaterThanOrEqual(5);
  });
});
