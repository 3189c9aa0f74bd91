import {
  parseAnnouncement,
  parsePayload,
  type Update,
  type UpdateId,
} from '../announcement/update.ts';
import { buildTime } from '../build.ts';
import type { Config } from '../config.ts';
import type { SerfClient } from '../daemons/serf/client.ts';
import { shownName } from '../daemons/serf/members.ts';
import { commandHint } from '../command-hint.ts';
import { hasErrno, UpdateError } from '../errors.ts';
import { formatRequest, latestQuery, type LatestRequest, parseCount } from '../query/latest.ts';
import { isAheadOfTime, maxClockLeadSeconds, maxVersionStep } from '../state/decide.ts';
import { isStored, listAccepted, readAccepted } from '../state/facts.ts';
import { listPublished, readPublished } from './published.ts';

const querySeconds = 1;

/** Answers of the members of the fleet, each by its own word: hints, on which no node acts. */
export interface FleetVersions {
  /** Resolves to the newest version of a channel that each member says it holds; never rejects. */
  ask: (channel: string) => Promise<ReadonlyMap<string, number>>;
  /** Resolves to the clocks of the other members, less that of this machine, in seconds; never rejects. */
  clockOffsets: () => Promise<readonly number[]>;
  /** Whether the operator vouches for this machine's clock, so that no other one counts. */
  isClockTrusted: boolean;
  /** Called with warnings for the operator. */
  warn: (message: string) => void;
}

/** Asks all members by Serf; while it is down there are no answers, and sending reports the reason. */
export function askBySerf(
  serf: Pick<SerfClient, 'query' | 'selfName'>,
  warn: FleetVersions['warn'],
  isClockTrusted = false,
): FleetVersions {
  const ask = async (request: LatestRequest): Promise<Map<string, number>> => {
    const answers = await serf.query(latestQuery, formatRequest(request), querySeconds);
    return new Map(
      [...answers].flatMap(([name, answer]) => {
        const count = parseCount(answer);
        return count === undefined ? [] : [[name, count]];
      }),
    );
  };
  const unlessDown = <T>(none: T) => {
    return (error: unknown): T => {
      if (error instanceof UpdateError) return none;
      throw error;
    };
  };
  return {
    warn,
    isClockTrusted,
    ask: (channel) => ask({ kind: 'newest', channel }).catch(unlessDown(new Map<string, number>())),
    async clockOffsets() {
      const here = Math.floor(Date.now() / 1000);
      try {
        const [clocks, self] = await Promise.all([ask({ kind: 'clock' }), serf.selfName()]);
        // A clock before the build is wrong by itself, and tells nothing of this one.
        return [...clocks].flatMap(([name, clock]) =>
          name === self || clock < buildTime ? [] : [clock - here],
        );
      } catch (error) {
        return unlessDown([])(error);
      }
    },
  };
}

/**
 * Lists every update that is known on this machine, by the names of files alone: those that the node
 * holds, its own target or not, and those submitted here, also when no node has heard of them yet.
 *
 * @throws UpdateError `configuration` when the directories cannot be read
 */
export function listKnown(config: Pick<Config, 'stateDir' | 'publishDir'>): UpdateId[] {
  try {
    return [...listAccepted(config.stateDir), ...listPublished(config)];
  } catch (cause) {
    if (!(cause instanceof UpdateError) && !hasErrno(cause, 'EACCES', 'EPERM')) throw cause;
    throw new UpdateError('configuration', 'cannot read which versions there are', {
      hint: `the owner and mode of the directories are wrong; to see which: ${commandHint('doctor')}`,
      cause,
    });
  }
}

/**
 * Finds the highest version of a channel that is known here or to a member of the fleet. Versions that no
 * node can have taken are left out: they would use up the channel.
 *
 * @returns 0 when there is none
 * @throws UpdateError `configuration` when the directories cannot be read
 */
export async function findNewest(
  channel: string,
  config: Config,
  fleet: FleetVersions,
  nowSeconds: number,
): Promise<number> {
  // Started first: the fleet answers while the files here are listed.
  const asked = fleet.ask(channel);
  const here = newestHere(channel, config, nowSeconds);
  // Lowered by a margin for nodes whose clocks are late.
  const limit = Math.max(here, nowSeconds) + maxVersionStep - maxClockLeadSeconds;
  let newest = here;
  for (const [name, version] of await asked) {
    if (version <= limit) newest = Math.max(newest, version);
    else fleet.warn(`${shownName(name)} says that ${version} is the newest of ${channel}: ignored`);
  }
  return newest;
}

/** The highest version known here that nodes may have taken. */
function newestHere(channel: string, config: Config, nowSeconds: number): number {
  const ids = listKnown(config).filter((id) => id.channel === channel);
  ids.sort((a, b) => a.version - b.version);
  let newest = 0;
  for (const { version } of ids)
    if (mayBeTaken({ channel, version }, newest, config, nowSeconds)) newest = version;
  return newest;
}

/**
 * Whether nodes whose clocks are right may have taken an update that is known here.
 *
 * @param before the highest version below it that they may have taken
 */
function mayBeTaken(id: UpdateId, before: number, config: Config, nowSeconds: number): boolean {
  const { version } = id;
  const latest = nowSeconds + maxClockLeadSeconds;
  if (version <= latest) return true;
  const isHeld = isStored(config.stateDir, id);
  const at = createdOf(id, isHeld, config);
  if (isHeld) return !isAheadOfTime({ version, at }, nowSeconds);
  return (
    version <= Math.max(before, nowSeconds) + maxVersionStep && (at === undefined || at <= latest)
  );
}

/** Creation of a held or a kept announcement, unix seconds; undefined when it is damaged. */
function createdOf(id: UpdateId, isHeld: boolean, config: Config): number | undefined {
  try {
    const stored = isHeld ? readAccepted(config.stateDir, id) : readPublished(config, id);
    return stored && parseAnnouncement(stored.payload).update.created;
  } catch (error) {
    if (error instanceof UpdateError) return undefined;
    throw error;
  }
}

/**
 * Chooses the version of the next update of a channel (docs/announcement.md#versions).
 *
 * @param wanted the operator's choice; undefined: max(newest + 1, now), so that versions ascend even when
 *   clocks do not, and look like times in logs
 * @param newest from {@link findNewest}
 * @throws UpdateError `refused` when it is not the newest
 */
export function chooseVersion(
  wanted: number | undefined,
  newest: number,
  channel: string,
  nowSeconds: number,
): number {
  if (wanted === undefined) return Math.max(newest + 1, nowSeconds);
  if (wanted > newest) return wanted;
  throw new UpdateError(
    'refused',
    `version ${wanted} is not above ${newest}, the newest of ${channel}`,
    { hint: 'leave --version out, or give a higher one' },
  );
}

/**
 * Finds the newest update of a channel that is known here and readable, submitted here or not.
 *
 * @param isWanted tells whether it counts; default: every one
 */
export async function newestUpdate(
  channel: string,
  config: Config,
  isWanted: (update: Update) => boolean = () => true,
): Promise<Update | undefined> {
  const candidates = [
    ...listPublished(config).map((id) => ({ id, read: () => readPublished(config, id) })),
    ...listAccepted(config.stateDir).map((id) => ({
      id,
      read: () => readAccepted(config.stateDir, id),
    })),
  ].filter(({ id }) => id.channel === channel);
  candidates.sort((a, b) => b.id.version - a.id.version);
  for (const { read } of candidates) {
    try {
      const payload = read()?.payload;
      if (payload === undefined) continue;
      const { update } = await parsePayload(Buffer.from(payload));
      if (isWanted(update)) return update;
    } catch {
      // A damaged record must not prevent an emergency stop: any other update has the channel too.
    }
  }
  return undefined;
}
