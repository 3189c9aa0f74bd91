import { type Announcement, keySetChannel } from '../announcement/fields.ts';
import { nameOf, type Update } from '../announcement/update.ts';
import type { Config } from '../config.ts';
import { buildTime } from '../build.ts';
import { UpdateError } from '../errors.ts';
import { decide, maxClockLeadSeconds, maxVersionStep } from '../state/decide.ts';
import { HeldUpdates } from '../state/held.ts';
import { isoTime } from '../system/iso-time.ts';
import { findNewest, type FleetVersions } from './known-updates.ts';

const setClock = 'timedatectl set-ntp true';

/** The time of the fleet, as far as it can be told; unix seconds. */
export interface FleetTime {
  /** Unix seconds; null: nothing tells it. */
  seconds: number | null;
  /** Source, for a person. */
  by: string;
}

/** Newest version and time of the fleet. */
export interface Survey {
  /** The highest version of the channel that counts, see {@link findNewest}. */
  newest: number;
  time: FleetTime;
}

/** Finds the newest version of a channel and the fleet's time; throws as {@link findNewest} does. */
export async function surveyFleet(
  channel: string,
  config: Config,
  fleet: FleetVersions,
  nowSeconds: number,
): Promise<Survey> {
  const [newest, time] = await Promise.all([
    findNewest(channel, config, fleet, nowSeconds),
    askFleetTime(config, fleet, nowSeconds),
  ]);
  return { newest, time };
}

/**
 * Tells the fleet's time: the median of the clocks of the other members, or where none answers, the date of
 * the newest announcement that this node holds, which is at least in the past. Members may say what they
 * like, so that it is a reason to refuse, and never one to accept.
 */
async function askFleetTime(
  config: Config,
  fleet: FleetVersions,
  nowSeconds: number,
): Promise<FleetTime> {
  if (fleet.isClockTrusted) return { seconds: null, by: '' };
  const offsets = [...(await fleet.clockOffsets())].sort((a, b) => a - b);
  const median = offsets[Math.floor(offsets.length / 2)];
  if (median !== undefined)
    return {
      seconds: nowSeconds + median,
      by:
        offsets.length === 1
          ? 'that of another member'
          : `those of ${offsets.length} other members`,
    };
  const newest = newestHeld(config);
  if (newest === undefined || newest.created <= nowSeconds + maxClockLeadSeconds)
    return { seconds: null, by: '' };
  return { seconds: newest.created, by: `the date of ${nameOf(newest)}, which this node holds,` };
}

/** The announcement of the latest date; the date of a key set proves nothing (lib/state/decide.ts). */
function newestHeld(config: Config): Update | undefined {
  const held = new HeldUpdates(config);
  const newest = [...held.channels].flatMap(([channel, [id]]) =>
    channel === keySetChannel || id === undefined ? [] : (held.announcement(id)?.update ?? []),
  );
  return newest.sort((a, b) => b.created - a.created)[0];
}

/**
 * Applies a node's own rules of acceptance to an announcement that is to be signed or sent, by this
 * machine's clock, once that agrees with the fleet's time.
 *
 * @throws UpdateError `refused` when nodes would refuse it, `try-later` while this clock is before the build
 */
export function requireAcceptable(
  announcement: Announcement,
  { newest, time: { seconds, by } }: Survey,
  config: Config,
  nowSeconds: number,
): void {
  const there = seconds === null ? '' : `; by ${by} it is ${isoTime(seconds)}`;
  requirePlausibleClock(nowSeconds, there);
  const here = `the clock of this machine says ${isoTime(nowSeconds)}`;
  if (seconds !== null && Math.abs(seconds - nowSeconds) > maxClockLeadSeconds)
    throw new UpdateError('refused', `${here}${there}`, {
      hint: `${setClock}; where this clock is the right one, add --force`,
    });
  const { kind, channel, version, created, expires, length } = announcement;
  // A node that comes later has no mark. A channel beyond its reach already goes on for those that have.
  const mark = newest > nowSeconds + maxVersionStep || newest >= version ? newest : 0;
  const held = [...new HeldUpdates(config).channels.keys()];
  const decision = decide({
    ...{ kind, channel, version, created, expires, length, nowSeconds, buildTime },
    ...{ isForUs: true, stored: 'none', mark, allowedChannels: null },
    knownChannels: new Set(held.filter((name) => name !== keySetChannel)),
    maxContentBytes: config.maxContentBytes,
  });
  if (decision.kind !== 'refuse') return;
  const { reason, hint } = decision;
  throw new UpdateError('refused', `nodes would refuse ${nameOf(announcement)}: ${reason}`, {
    hint,
  });
}

/**
 * Refuses to sign by a clock that is earlier than this software.
 *
 * @param there what the fleet's time seems to be, for a person
 * @throws UpdateError `try-later`
 */
export function requirePlausibleClock(nowSeconds: number, there = ''): void {
  if (nowSeconds >= buildTime) return;
  const here = `the clock of this machine says ${isoTime(nowSeconds)}`;
  throw new UpdateError('try-later', `${here}, before this software was built${there}`, {
    hint: setClock,
  });
}
