import { join } from 'node:path';
import { defineConfig } from 'vitest/config';

/** Apart from vitest.config.ts of the project, so that no run of the suite boots machines. */
export default defineConfig({
  test: {
    root: join(import.meta.dirname, '..', '..'),
    include: ['test/machines/*.scenario.ts'],
    reporters: ['verbose', './test/support/run/closing-line.ts'],
    env: { TSX_DISABLE_CACHE: '1' },
    fileParallelism: false,
    // One fleet goes through all of them.
    isolate: false,
    sequence: { concurrent: false, shuffle: false },
    testTimeout: 600_000,
    hookTimeout: 900_000,
    teardownTimeout: 60_000,
  },
});
