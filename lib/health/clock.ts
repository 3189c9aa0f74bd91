import { maxClockLeadSeconds } from '../state/decide.ts';
import { isoTime } from '../system/iso-time.ts';
import { type Check, checkOf } from './check.ts';

const { ok, fail } = checkOf('clock', 'clock');
const setClock = ['timedatectl set-ntp true', 'date -u'];

/**
 * Judges the clock by the build of this software and by the newest announcement that the node holds.
 *
 * @param clock unix seconds, all; `newestCreated` null: no announcement
 */
export function judgeClock(clock: {
  nowSeconds: number;
  buildTime: number;
  newestCreated: number | null;
}): Check {
  const { nowSeconds, buildTime, newestCreated } = clock;
  const now = isoTime(nowSeconds);
  // lib/state/decide.ts: rules of time then wait, and no new update is accepted.
  if (nowSeconds < buildTime)
    return fail(`clock wrong: ${now} is before this software was built`, ...setClock);
  if (newestCreated !== null && newestCreated > nowSeconds + maxClockLeadSeconds)
    // Each new update is refused: it was created in the future.
    return fail(
      `clock wrong: ${now} is ${Math.round((newestCreated - nowSeconds) / 60)} min behind the newest announcement`,
      ...setClock,
    );
  return ok(now);
}
