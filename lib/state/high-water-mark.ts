import { keySetChannel } from '../announcement/fields.ts';
import { matchesTarget } from '../announcement/target.ts';
import type { Update, UpdateId } from '../announcement/update.ts';
import { type Config, identityOf } from '../config.ts';
import type { HeldUpdates } from './held.ts';
import { currentKeySet } from './key-chain.ts';
import { outcomesDir, updatesDir } from './layout.ts';
import { listRecords, readIfIntact } from './progress.ts';

/** The part that an accepted announcement plays on this node. */
export type Role =
  /** It counts: what is older is past. */
  | { role: 'active' }
  /** A trial run: past are only older ones. */
  | { role: 'noop' }
  /** For other nodes. */
  | { role: 'not-targeted'; target: string; noop: boolean };

/**
 * The role of a held announcement, from its text alone; verifying it is another matter. A damaged one
 * counts: taking it for nothing could bring back what is older.
 */
export function roleOf(held: HeldUpdates, id: UpdateId): Role {
  const announcement = held.announcement(id);
  return announcement === undefined
    ? { role: 'active' }
    : roleOfUpdate(held.config, announcement.update);
}

/** The same of an update in hand. */
export function roleOfUpdate(
  config: Config,
  { channel, target, noop }: Pick<Update, 'channel' | 'target' | 'noop'>,
): Role {
  if (!matchesTarget(target, channel, identityOf(config)))
    return { role: 'not-targeted', target, noop };
  return { role: noop ? 'noop' : 'active' };
}

/**
 * The version that an offer has to be above: this node's high-water mark (design: section 6). Only
 * what targets this node and is not noop moves it for others; a noop has also to be above the noops.
 * What is for other nodes has to be above what the same nodes have been sent.
 *
 * @returns 0 when there is none
 */
export function markFor(held: HeldUpdates, offered: Update): number {
  return Math.max(heldMark(held, offered), begunMark(held, offered));
}

/** By the names of the announcements that this node holds. */
function heldMark(held: HeldUpdates, offered: Update): number {
  const { config } = held;
  const { channel } = offered;
  const ids = held.inChannel(channel);
  if (channel === keySetChannel) {
    // Epochs count, wherever this node has them from.
    return Math.max(currentKeySet(config).epoch, ids[0]?.version ?? 0);
  }
  const offer = roleOfUpdate(config, offered);
  const isPast = (id: UpdateId): boolean => {
    const other = roleOf(held, id);
    if (offer.role === 'not-targeted')
      return (
        other.role === 'not-targeted' && other.target === offer.target && other.noop === offer.noop
      );
    return other.role === 'active' || (other.role === 'noop' && offer.role === 'noop');
  };
  return ids.find(isPast)?.version ?? 0;
}

/**
 * By what this node has begun, as the records of both sides say: the mark must not fall when the
 * announcements are lost. What was lost itself may come back, though, so that it can be applied, if it
 * has not been, and served.
 */
function begunMark(held: HeldUpdates, offered: Update): number {
  const { config } = held;
  const { channel, version, infoHash } = offered;
  if (channel === keySetChannel || roleOfUpdate(config, offered).role === 'not-targeted') return 0;
  let mark = 0;
  for (const directory of [updatesDir(config.stateDir), outcomesDir(config.applyDir)])
    for (const id of listRecords(directory)) {
      // Of what is held, its announcement tells more.
      if (id.channel !== channel || id.version <= mark || held.has(id)) continue;
      // A damaged record counts by its name.
      const record = readIfIntact(directory, id);
      if (record?.noop === true && !offered.noop) continue;
      const isLostOne = id.version === version && record?.infoHash === infoHash;
      mark = isLostOne ? Math.max(mark, version - 1) : id.version;
    }
  return mark;
}
