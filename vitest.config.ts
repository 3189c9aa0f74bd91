import { defineConfig } from 'vitest/config';

/** A cache in /tmp that any local user can make first is believed by tsx: docs/decisions/bundles.md. */
const env = { TSX_DISABLE_CACHE: '1' };

export default defineConfig({
  test: {
    teardownTimeout: 60_000,
    reporters: ['default', './test/support/run/closing-line.ts'],
    projects: [
      {
        test: {
          name: 'unit',
          env,
          include: ['test/**/*.test.ts'],
          exclude: ['test/{integration,attacks}/**'],
          // Most of them wait for a process that they have started.
          maxWorkers: 3,
          // Files share what they import: reading it anew for each takes longer than many of them do.
          isolate: false,
          // No test is bound by the speed of the machine: test/support/run/run-tests.ts ends what hangs.
          testTimeout: 300_000,
          hookTimeout: 300_000,
        },
      },
      {
        test: {
          // Real daemons in network namespaces. They look at processes: one file at a time in a sandbox;
          // test/support/run/run-tests.ts has several sandboxes.
          name: 'integration',
          env,
          include: ['test/{integration,attacks}/**/*.test.ts'],
          fileParallelism: false,
          isolate: false,
          testTimeout: 540_000,
          hookTimeout: 540_000,
        },
      },
    ],
  },
});
