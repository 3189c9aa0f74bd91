import type { UpdateId } from '../announcement/update.ts';
import type { Config } from '../config.ts';
import type { SerfClient } from '../daemons/serf/client.ts';
import { hasErrno, UpdateError } from '../errors.ts';
import { formatRequest, latestQuery, parseNewest } from '../query/latest.ts';
import { maxClockLeadSeconds, maxVersionStep } from '../state/decide.ts';
import { listAccepted } from '../state/facts.ts';
import { shownName } from '../system/printable.ts';
import { listPublished } from './published.ts';

const querySeconds = 1;

/** Asks the fleet which versions there are, for whoever chooses the next one. */
export interface FleetVersions {
  /** The newest version of a channel that each member says it holds; never fails. */
  ask: (channel: string) => Promise<ReadonlyMap<string, number>>;
  /** Told what a person should know. */
  warn: (message: string) => void;
}

/** Asks all members by Serf; where it is down nobody answers, and sending will say why. */
export function askBySerf(
  serf: Pick<SerfClient, 'query'>,
  warn: FleetVersions['warn'],
): FleetVersions {
  return {
    warn,
    async ask(channel) {
      const request = formatRequest({ kind: 'newest', channel });
      const answers = await serf
        .query(latestQuery, request, querySeconds)
        .catch((error: unknown) => {
          if (error instanceof UpdateError) return new Map<string, string>();
          throw error;
        });
      return new Map(
        [...answers].flatMap(([name, answer]) => {
          const version = parseNewest(answer);
          return version === undefined ? [] : [[name, version]];
        }),
      );
    },
  };
}

/**
 * Every update that is known on this machine, by the names of files alone: what the node holds, its
 * own target or not, and what was submitted here, also when no node has heard of it yet.
 *
 * @throws UpdateError `configuration` when the directories cannot be read
 */
export function listKnown(config: Pick<Config, 'stateDir' | 'publishDir'>): UpdateId[] {
  try {
    return [...listAccepted(config.stateDir), ...listPublished(config)];
  } catch (cause) {
    if (!(cause instanceof UpdateError) && !hasErrno(cause, 'EACCES', 'EPERM')) throw cause;
    throw new UpdateError('configuration', 'cannot read which versions there are', {
      hint: `whoever submits must be able to read ${config.stateDir}: usermod -aG p2p-update USER`,
      cause,
    });
  }
}

/**
 * The highest version known of a channel, here or to a member of the fleet.
 *
 * A member may lie: an answer that no node would take the next version of counts for nothing.
 *
 * @param now unix seconds
 * @returns 0 when there is none
 * @throws UpdateError `configuration` when the directories cannot be read
 */
export async function findNewest(
  channel: string,
  config: Pick<Config, 'stateDir' | 'publishDir'>,
  fleet: FleetVersions,
  now: number,
): Promise<number> {
  // Started first: it waits for the fleet, and we need not wait with it.
  const asked = fleet.ask(channel);
  const here = listKnown(config).reduce(
    (top, id) => (id.channel === channel ? Math.max(top, id.version) : top),
    0,
  );
  // Less some room for nodes whose clocks are late.
  const limit = Math.max(here, now) + maxVersionStep - maxClockLeadSeconds;
  let newest = here;
  for (const [name, version] of await asked) {
    if (version <= limit) newest = Math.max(newest, version);
    else fleet.warn(`${shownName(name)} says that ${version} is the newest of ${channel}: ignored`);
  }
  return newest;
}

/**
 * The version of the next update of a channel.
 *
 * @param wanted what the operator asks for; undefined: max(newest + 1, now), so that versions ascend
 *   even when clocks do not, and look like times in logs
 * @param newest from {@link findNewest}
 * @throws UpdateError `refused` when it is not the newest
 */
export function chooseVersion(
  wanted: number | undefined,
  newest: number,
  channel: string,
  now: number,
): number {
  if (wanted === undefined) return Math.max(newest + 1, now);
  if (wanted > newest) return wanted;
  throw new UpdateError(
    'refused',
    `version ${wanted} is not above ${newest}, the newest of ${channel}`,
    { hint: 'leave --version out, or give a higher one' },
  );
}
