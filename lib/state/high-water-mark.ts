import { keySetChannel } from '../announcement/fields.ts';
import { identityOf, type Config } from '../config.ts';
import { UpdateError } from '../errors.ts';
import { currentKeySet } from './key-chain.ts';
import { listRecords, outcomesDir, readIfIntact, updatesDir } from './progress.ts';
import { listAccepted, readAccepted } from './facts.ts';
import { matchesTarget } from '../announcement/target.ts';
import {
  looksLikeTorrent,
  parseAnnouncement,
  updateKey,
  type Update,
  type UpdateId,
} from '../announcement/update.ts';

/** What an accepted announcement is to this node. */
export type Held =
  /** It counts: what is older is past. */
  | { role: 'active' }
  /** A trial run: past are only older ones. */
  | { role: 'noop' }
  /** For other nodes. */
  | { role: 'not-targeted'; target: string; noop: boolean };

/**
 * What a stored announcement is to this node, from its text alone; verifying it is another matter.
 * A damaged one counts: taking it for nothing could bring back what is older.
 */
export function roleOf(config: Config, id: UpdateId): Held {
  const stored = readAccepted(config.stateDir, id);
  if (stored === undefined || looksLikeTorrent(Buffer.from(stored.payload)))
    return { role: 'active' };
  try {
    return roleOfUpdate(config, parseAnnouncement(stored.payload).update);
  } catch (error) {
    if (error instanceof UpdateError) return { role: 'active' };
    throw error;
  }
}

/** The same of an update in hand. */
export function roleOfUpdate(
  config: Config,
  { channel, target, noop }: Pick<Update, 'channel' | 'target' | 'noop'>,
): Held {
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
export function markFor(config: Config, offered: Update): number {
  return Math.max(heldMark(config, offered), begunMark(config, offered));
}

/** By the names of the announcements that this node holds. */
function heldMark(config: Config, offered: Update): number {
  const { channel } = offered;
  const held = listAccepted(config.stateDir)
    .filter((id) => id.channel === channel)
    .reverse();
  if (channel === keySetChannel) {
    // Epochs count, wherever this node has them from.
    return Math.max(currentKeySet(config).epoch, held[0]?.version ?? 0);
  }
  const offer = roleOfUpdate(config, offered);
  const isPast = (id: UpdateId): boolean => {
    const other = roleOf(config, id);
    if (offer.role === 'not-targeted')
      return (
        other.role === 'not-targeted' && other.target === offer.target && other.noop === offer.noop
      );
    return other.role === 'active' || (other.role === 'noop' && offer.role === 'noop');
  };
  return held.find(isPast)?.version ?? 0;
}

/**
 * By what this node has begun, as the records of both sides say: the mark must not fall when the
 * announcements are lost. What was lost itself may come back, though, so that it can be applied, if it
 * has not been, and served.
 */
function begunMark(config: Config, offered: Update): number {
  const { channel, version, infoHash } = offered;
  if (channel === keySetChannel || roleOfUpdate(config, offered).role === 'not-targeted') return 0;
  const held = new Set(listAccepted(config.stateDir).map(updateKey));
  let mark = 0;
  for (const directory of [updatesDir(config.stateDir), outcomesDir(config.applyDir)])
    for (const id of listRecords(directory)) {
      // Of what is held, its announcement tells more.
      if (id.channel !== channel || id.version <= mark || held.has(updateKey(id))) continue;
      // A damaged record counts by its name.
      const record = readIfIntact(directory, id);
      if (record?.noop === true && !offered.noop) continue;
      const isLostOne = id.version === version && record?.infoHash === infoHash;
      mark = isLostOne ? Math.max(mark, version - 1) : id.version;
    }
  return mark;
}
