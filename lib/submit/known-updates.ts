import type { UpdateId } from '../announcement/update.ts';
import type { Config } from '../config.ts';
import type { SerfClient } from '../daemons/serf/client.ts';
import { hasErrno, UpdateError } from '../errors.ts';
import { formatRequest, latestQuery, parseNewest } from '../query/latest.ts';
import { maxClockLeadSeconds, maxVersionStep } from '../state/decide.ts';
import { listAccepted } from '../state/facts.ts';
import { asciiOnly } from '../system/printable.ts';
import { listPublished } from './published.ts';

const querySeconds = 1;

/** The versions that the fleet holds, for the choice of the next one. */
export interface FleetVersions {
  /** Resolves to the newest version of a channel that each member says it holds; never rejects. */
  ask: (channel: string) => Promise<ReadonlyMap<string, number>>;
  /** Called with warnings for the operator. */
  warn: (message: string) => void;
}

/** Asks all members by Serf; while it is down there are no answers, and sending reports the reason. */
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
      hint: `an operator must be able to read ${config.stateDir}: usermod -aG p2p-update USER`,
      cause,
    });
  }
}

/**
 * Finds the highest version of a channel that is known here or to a member of the fleet.
 *
 * A member may lie: a version so high that nodes would refuse the one after it is ignored.
 *
 * @returns 0 when there is none
 * @throws UpdateError `configuration` when the directories cannot be read
 */
export async function findNewest(
  channel: string,
  config: Pick<Config, 'stateDir' | 'publishDir'>,
  fleet: FleetVersions,
  nowSeconds: number,
): Promise<number> {
  // Started first: the fleet answers while the files here are listed.
  const asked = fleet.ask(channel);
  const here = listKnown(config).reduce(
    (top, id) => (id.channel === channel ? Math.max(top, id.version) : top),
    0,
  );
  // Lowered by a margin for nodes whose clocks are late.
  const limit = Math.max(here, nowSeconds) + maxVersionStep - maxClockLeadSeconds;
  let newest = here;
  for (const [name, version] of await asked) {
    if (version <= limit) newest = Math.max(newest, version);
    else {
      const member = asciiOnly(name.slice(0, 64));
      fleet.warn(`${member} says that ${version} is the newest of ${channel}: ignored`);
    }
  }
  return newest;
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
