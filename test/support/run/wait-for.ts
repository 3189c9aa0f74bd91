import { setTimeout as sleep } from 'node:timers/promises';

/**
 * Many times what anything takes on a machine with ten busy processes a core. P2P_TEST_WAIT_MS is for runs
 * that are to fail, such as those of `npm run mutants`.
 */
const defaultTimeoutMs = Number(process.env['P2P_TEST_WAIT_MS'] ?? 240_000);
const pauseMs = 50;
/** Pause after a look, in times of what that took: what is waited for needs the processor more. */
const pausesForEachLook = 10;
const maxPauseMs = 3000;

/**
 * Asks again until a condition gives something other than false or undefined, and returns that.
 *
 * @param description the awaited condition, for the error
 * @param timeoutMs when to give up, in milliseconds
 * @param explain adds what is known about the failure, such as the tail of a log
 */
export async function waitFor<T>(
  description: string,
  condition: () => T | Promise<T>,
  timeoutMs = defaultTimeoutMs,
  explain: () => string = () => '',
): Promise<Exclude<T, false | undefined>> {
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    const begin = performance.now();
    const result = await condition();
    if (result !== false && result !== undefined) return result as Exclude<T, false | undefined>;
    if (Date.now() > deadline) {
      throw new Error(`waited ${timeoutMs} ms in vain: ${description}\n${explain()}`);
    }
    const tookMs = performance.now() - begin;
    await sleep(Math.min(Math.max(pauseMs, tookMs * pausesForEachLook), maxPauseMs));
  }
}
