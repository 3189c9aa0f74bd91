import type { Update } from '../announcement/update.ts';
import { placeOf } from './content-place.ts';
import { keepReseed } from './facts.ts';
import type { HeldUpdates } from './held.ts';
import { updatesDir } from './layout.ts';
import { readIfIntact } from './progress.ts';

/**
 * Keeps a member's request to add a torrent anew, once for all members that make it; the reconciler decides
 * whether to (lib/reconciler/advance/reseed.ts).
 *
 * @param infoHash 40 lowercase hexadecimal digits
 * @returns whether this node has the content, as far as it knows without asking its daemon
 */
export async function requestReseed(held: HeldUpdates, infoHash: string): Promise<boolean> {
  const { config } = held;
  const update = await findByInfoHash(held, infoHash);
  if (update === undefined) return false;
  const isComplete = readIfIntact(updatesDir(config.stateDir), update)?.state === 'COMPLETE';
  if (!isComplete && !placeOf(config, update).isThere) return false;
  keepReseed(config.stateDir, infoHash);
  return true;
}

/** Finds the update of a torrent, the newest of several of one channel; undefined for none. */
export async function findByInfoHash(
  held: HeldUpdates,
  infoHash: string,
): Promise<Update | undefined> {
  for (const id of [...held.ids].reverse()) {
    const update = (await held.offer(id))?.update;
    if (update?.infoHash === infoHash) return update;
  }
  return undefined;
}
