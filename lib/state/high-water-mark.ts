import { keySetChannel } from '../announcement/fields.ts';
import { matchesTarget } from '../announcement/target.ts';
import type { Update, UpdateId } from '../announcement/update.ts';
import { type Config, identityOf } from '../config.ts';
import type { HeldUpdates } from './held.ts';
import { isAheadOfTime, maxVersionStep } from './decide.ts';
import { currentKeySet } from './key-chain.ts';
import { outcomesDir, updatesDir } from './layout.ts';
import { isRecordAheadOfTime, listRecords, readIfIntact } from './progress.ts';

/** The clock by which an offer is judged; unix seconds. */
export interface Clock {
  nowSeconds: number;
  /** See DecisionInput. */
  buildTime: number;
}

/** Role of an accepted announcement on this node. */
export type Role =
  /** Supersedes everything older on its channel. */
  | { role: 'active' }
  /** Dry run, which supersedes older dry runs only. */
  | { role: 'noop' }
  /** Meant for other nodes. */
  | { role: 'not-targeted'; target: string; noop: boolean };

/**
 * The role of a held announcement, from its text alone, unverified. A damaged one counts as active:
 * ignoring it could bring back an older update.
 */
export function roleOf(held: HeldUpdates, id: UpdateId): Role {
  const announcement = held.announcement(id);
  return announcement === undefined
    ? { role: 'active' }
    : roleOfUpdate(held.config, announcement.update);
}

/** The role of an update, from its fields. */
export function roleOfUpdate(
  config: Config,
  { channel, target, noop }: Pick<Update, 'channel' | 'target' | 'noop'>,
): Role {
  if (!matchesTarget(target, channel, identityOf(config)))
    return { role: 'not-targeted', target, noop };
  return { role: noop ? 'noop' : 'active' };
}

/**
 * Held updates of the offer's channel that count for nothing against it: taken while this node's clock was
 * far ahead, so that no mark of a right clock may rest on them (docs/trust.md#clock). An offer that is not
 * of about now proves nothing.
 */
export function heldAheadOfTime(held: HeldUpdates, offered: Update, clock: Clock): UpdateId[] {
  if (!isOfNow(offered, clock)) return [];
  return held.inChannel(offered.channel).filter((id) => {
    const at = held.isTorrent(id) ? id.version : held.announcement(id)?.update.created;
    return isAheadOfTime({ version: id.version, at }, clock.nowSeconds);
  });
}

function isOfNow({ kind, created }: Update, { nowSeconds, buildTime }: Clock): boolean {
  const age = Math.abs(nowSeconds - created);
  return kind !== 'keyset' && nowSeconds >= buildTime && age <= maxVersionStep;
}

/**
 * High-water mark of this node: the version that an offer has to exceed (docs/announcement.md#versions).
 * Only updates for this node that are no noop raise it for all; a noop has to exceed the noops as well.
 * An offer for other nodes has to exceed the offers with the same target. Updates of {@link heldAheadOfTime}
 * and their records do not count.
 *
 * @returns 0 when there is none
 */
export function markFor(held: HeldUpdates, offered: Update, clock: Clock): number {
  return Math.max(heldMark(held, offered, clock), begunMark(held, offered, clock));
}

/** Mark by the announcements that this node holds. */
function heldMark(held: HeldUpdates, offered: Update, clock: Clock): number {
  const { config } = held;
  const { channel } = offered;
  const ahead = heldAheadOfTime(held, offered, clock);
  const ids = held.inChannel(channel).filter((id) => !ahead.includes(id));
  if (channel === keySetChannel) {
    // Epochs count, whether placed at set-up, chained or held.
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
 * Mark by the records of both sides, for updates that this node has begun: it must not fall when the
 * announcements are lost. A lost announcement itself may come back, so that it can be served, and
 * applied if it has not been.
 */
function begunMark(held: HeldUpdates, offered: Update, clock: Clock): number {
  const { config } = held;
  const { channel, version, infoHash } = offered;
  if (channel === keySetChannel || roleOfUpdate(config, offered).role === 'not-targeted') return 0;
  let mark = 0;
  for (const directory of [updatesDir(config.stateDir), outcomesDir(config.applyDir)])
    for (const id of listRecords(directory)) {
      // A held announcement tells more than its record.
      if (id.channel !== channel || id.version <= mark || held.has(id)) continue;
      // A damaged record counts by its name.
      const record = readIfIntact(directory, id);
      if (record?.noop === true && !offered.noop) continue;
      if (isOfNow(offered, clock) && isRecordAheadOfTime(id, record, clock.nowSeconds)) continue;
      const isLostOne = id.version === version && record?.infoHash === infoHash;
      mark = isLostOne ? Math.max(mark, version - 1) : id.version;
    }
  return mark;
}
