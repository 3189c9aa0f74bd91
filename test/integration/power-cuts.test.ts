import { describe, expect, it } from 'vitest';
import { whyNoImage } from '../crash/cut-image.ts';
import { runPowerCuts } from '../crash/power-cuts.ts';

const why = whyNoImage();

describe(`power cuts${why === undefined ? '' : ` (skipped: ${why})`}`, () => {
  it.skipIf(why !== undefined)(
    'lose nothing that was promised, and the same programs without the flush of directories do',
    async () => {
      const options = { short: true, seed: 1, only: undefined, onProgress: undefined };
      const { count, rows, failures } = await runPowerCuts(options);
      expect(failures).toEqual([]);
      expect(count).toBeGreaterThanOrEqual(8);
      const mutant = rows.find(({ label }) => /without the flush/.test(label))?.figures;
      expect(mutant?.['cuts']).toBeGreaterThan(0);
      expect(mutant?.['lost']).toBeGreaterThan(0);
    },
  );
});
