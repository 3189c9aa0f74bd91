import type { Config } from './config.ts';
import { UpdateError, hasErrno } from './errors.ts';
import { listPublished } from './publish.ts';
import { listAccepted } from './store.ts';
import type { UpdateId } from './update.ts';

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

/** The highest version known of a channel; 0 when there is none. */
export function newestVersion(known: readonly UpdateId[], channel: string): number {
  return known.reduce((top, id) => (id.channel === channel ? Math.max(top, id.version) : top), 0);
}

/**
 * The version of the next update of a channel.
 *
 * @param wanted what the operator asks for; undefined: max(newest + 1, now), so that versions ascend
 *   even when clocks do not, and look like times in logs
 * @throws UpdateError `refused` when it is not the newest
 */
export function chooseVersion(
  wanted: number | undefined,
  config: Pick<Config, 'stateDir' | 'publishDir'>,
  channel: string,
  now: number,
): number {
  const newest = newestVersion(listKnown(config), channel);
  if (wanted === undefined) return Math.max(newest + 1, now);
  if (wanted > newest) return wanted;
  throw new UpdateError(
    'refused',
    `version ${wanted} is not above ${newest}, the newest of ${channel}`,
    { hint: 'leave --version out, or give a higher one' },
  );
}
