import { keySetChannel } from '../announcement/fields.ts';
import type { Progress } from './progress.ts';
import { updateKey, type UpdateId } from '../announcement/update.ts';

/** What is kept of a channel's outcomes, and of the logs of their runs, besides what marks rest on. */
const keptOutcomes = 16;

/** An announcement as far as it matters here; undefined target: it is damaged. */
export interface HeldAnnouncement {
  id: UpdateId;
  target: string | undefined;
  noop: boolean;
}

/**
 * The keys of the announcements that a node goes on holding: the newest of each channel, target and
 * noop, every key set, and what is damaged. With these no mark falls, whatever this node's tags are or
 * become: the newest of all that target it is the newest of its own target, too (lib/state/high-water-mark.ts).
 */
export function announcementsThatStay(held: readonly HeldAnnouncement[]): Set<string> {
  const newest = new Map<string, UpdateId>();
  const stay = new Set<string>();
  for (const { id, target, noop } of held) {
    if (id.channel === keySetChannel || target === undefined) {
      stay.add(updateKey(id));
      continue;
    }
    const group = `${id.channel}\0${target}\0${noop}`;
    const other = newest.get(group);
    if (other === undefined || other.version < id.version) newest.set(group, id);
  }
  for (const id of newest.values()) stay.add(updateKey(id));
  return stay;
}

/**
 * The keys of a channel's outcomes that stay: the newest 16; the newest that is no trial, which is the
 * mark of the apply side (isRollback); and what was applied last, so that it is not applied again
 * (lastApplied).
 *
 * @param ids of one channel
 * @param read the outcome of one; undefined when there is none, as when only a log is left
 */
export function outcomesThatStay(
  ids: readonly UpdateId[],
  read: (id: UpdateId) => Progress | undefined,
): Set<string> {
  if (ids[0]?.channel === keySetChannel) return new Set(ids.map(updateKey));
  const sorted = ids.toSorted((a, b) => b.version - a.version);
  const stay = new Set(sorted.slice(0, keptOutcomes).map(updateKey));
  if (stay.size === sorted.length) return stay;
  const isReal = (id: UpdateId): boolean => read(id)?.noop === false;
  const isContent = (id: UpdateId): boolean =>
    isReal(id) && read(id)?.state === 'APPLIED' && !/^0*$/.test(read(id)?.sha256 ?? 'bare');
  const newestReal = sorted.find(isReal);
  for (const id of [newestReal, sorted.find(isContent)])
    if (id !== undefined) stay.add(updateKey(id));
  // A damaged or lost outcome may have been the mark.
  for (const id of sorted)
    if (read(id) === undefined && id.version > (newestReal?.version ?? 0)) stay.add(updateKey(id));
  return stay;
}
