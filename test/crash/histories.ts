import { join } from 'node:path';
import { repository } from '../support/run/repository.ts';
import { run } from '../support/run/command.ts';
import type { CrashOptions, CrashResult } from './result.ts';

const tests = ['histories', 'corrupt-state'];
const limitMs = 3_600_000;

/**
 * The tests of random histories and of damaged records with all their numbers: a thousand histories
 * instead of a hundred, and every damage instead of every tenth. Shortened they are the tests themselves.
 */
export async function runHistories({
  short,
  seed,
}: Pick<CrashOptions, 'short' | 'seed'>): Promise<CrashResult> {
  const files = tests.map((name) => join('test', 'integration', `${name}.test.ts`));
  // Without a seed of its own it is the test's.
  const seeded = seed === 1 ? {} : { HISTORIES_SEED: String(seed) };
  const full = { HISTORIES: '1000', DAMAGE_EVERY: '1', ...seeded };
  const vitest = join(repository, 'node_modules', 'vitest', 'vitest.mjs');
  const { status, stdout, stderr } = await run([process.execPath, vitest, 'run', ...files], {
    cwd: repository,
    env: { ...process.env, ...(short ? {} : full) },
    timeoutMs: limitMs,
  });
  const passed = Number(/^(\d+) passed/m.exec(stdout)?.[1] ?? 0);
  const detail = `${stdout}${stderr}`;
  return {
    count: passed,
    rows: [{ label: 'histories and damaged records', figures: { tests: passed } }],
    failures: status === 0 ? [] : [{ invariant: 'notConverged', point: 'histories', detail }],
  };
}
