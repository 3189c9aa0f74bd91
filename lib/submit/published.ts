import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  describeRef,
  isNamedBy,
  nameOf,
  parseAnnouncement,
  parseUpdateKey,
  type UpdateId,
  updateKey,
  type UpdateRef,
} from '../announcement/update.ts';
import type { Config } from '../config.ts';
import { UpdateError } from '../errors.ts';
import { maxClockLeadSeconds } from '../state/decide.ts';
import { listDirectory } from '../system/directory.ts';
import { decodeRecord } from '../system/record.ts';

/** The part of a submission that stays on disk, so that it can be sent again byte for byte. */
export interface PublishedUpdate extends UpdateId {
  payload: string;
  /** The .torrent, base64; null for a withdrawal, which has no content. */
  metainfo: string | null;
}

/** The directory of the kept announcements. */
export function announcementsDir({ publishDir }: Pick<Config, 'publishDir'>): string {
  return join(publishDir, 'announcements');
}

/** Lists every announcement kept here, by the names of files alone, the highest version first. */
export function listPublished(config: Pick<Config, 'publishDir'>): UpdateId[] {
  const kept = listDirectory(announcementsDir(config)).flatMap(
    (name) => parseUpdateKey(name) ?? [],
  );
  return kept.sort((a, b) => b.version - a.version);
}

/**
 * Reads a kept announcement.
 *
 * @throws UpdateError `configuration` when its record is damaged
 */
export function readPublished(config: Config, id: UpdateId): PublishedUpdate {
  const file = join(announcementsDir(config), updateKey(id));
  const record = decodeRecord(readFileSync(file, 'utf8'), file);
  if (record === undefined)
    throw new UpdateError('configuration', `the record ${file} is corrupt`, {
      hint: 'submit the file again',
    });
  return record.value as PublishedUpdate;
}

/** Whether a kept announcement was signed by a clock that was ahead, so that no node can have taken it. */
export function isOfFuture({ payload }: PublishedUpdate, nowSeconds: number): boolean {
  return parseAnnouncement(payload).update.created > nowSeconds + maxClockLeadSeconds;
}

/**
 * Finds the kept announcement that an operator names.
 *
 * @param ref of a channel, or without one, the highest version that nodes may have taken
 * @throws UpdateError `usage` when there is none, `configuration` when its record is damaged
 */
export function findPublished(
  config: Config,
  ref: UpdateRef | undefined,
  nowSeconds: number,
): PublishedUpdate {
  const kept = listPublished(config);
  for (const id of kept) {
    if (ref !== undefined && !isNamedBy(ref, id)) continue;
    const published = readPublished(config, id);
    const isNamed = ref !== undefined && ref.version !== null;
    if (isNamed || !isOfFuture(published, nowSeconds)) return published;
  }
  throw notKept(ref, kept);
}

/** The error for a reference to none of the kept announcements. */
export function notKept(ref: UpdateRef | undefined, kept: readonly UpdateId[]): UpdateError {
  const known = kept.slice(0, 5).map(nameOf);
  const wanted = ref === undefined ? 'that fits' : describeRef(ref);
  return new UpdateError('usage', `no announcement ${wanted} was kept here`, {
    hint: known.length > 0 ? `there are: ${known.join(', ')}` : 'submit a file first',
  });
}
