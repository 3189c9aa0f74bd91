import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { keySetChannel } from '../announcement/fields.ts';
import { parseUpdateKey, type Update, type UpdateId, updateKey } from '../announcement/update.ts';
import type { Config } from '../config.ts';
import { listDirectory } from '../system/directory.ts';
import { replaceRecord } from '../system/record.ts';
import { isStored, parseTorrentFileName, torrentFileName } from './facts.ts';
import {
  announcementsDir,
  outcomesDir,
  runsDir,
  stagingDir,
  torrentsDir,
  updatesDir,
} from './layout.ts';
import { isAppliedContent, listRecords, type Progress, readIfIntact } from './progress.ts';

/** Outcomes kept of a channel, with the logs of their runs, besides those that high-water marks rest on. */
const keptOutcomes = 16;
/** Updates removed in one pass: removing the traces of a flood must not hold the lock. */
const maxPruned = 64;

/** Fields of an announcement on which its retention depends; undefined target: it is damaged. */
export interface HeldAnnouncement {
  id: UpdateId;
  target: string | undefined;
  noop: boolean;
}

/**
 * Selects the announcements that a node goes on holding: the newest of each channel, target and noop,
 * every key set, and damaged ones. So no high-water mark falls, whatever this node's tags are or become:
 * the newest of all that target it is also the newest of its own target (lib/state/high-water-mark.ts).
 *
 * @returns their keys
 */
export function retainedAnnouncements(held: readonly HeldAnnouncement[]): Set<string> {
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
 * Selects the contents of a channel that stay, those that the node applied last.
 *
 * @param applied the outcomes of one channel; those of withdrawals and noops do not count
 * @param count limit of different contents
 * @returns contents, by {@link contentKey}
 */
export function retainedContents(
  applied: readonly { id: UpdateId; outcome: Progress | undefined }[],
  count: number,
): Set<string> {
  const stay = new Set<string>();
  for (const { outcome } of [...applied].sort((a, b) => b.id.version - a.id.version)) {
    if (stay.size >= count) break;
    if (outcome !== undefined && isAppliedContent(outcome)) stay.add(contentKey(outcome));
  }
  return stay;
}

/** Identity of a content: one may be in two torrents, as when another target left room for other pieces. */
export function contentKey({ infoHash, sha256 }: Pick<Update, 'infoHash' | 'sha256'>): string {
  return sha256 ?? infoHash;
}

/**
 * Selects the outcomes of a channel that stay: the newest 16; the newest that is no noop, which is the
 * apply side's high-water mark (isRollback); and that of the content applied last, so that it is not
 * applied again (lastApplied).
 *
 * @param ids of one channel
 * @param read the outcome of one; undefined when there is none, as when only a log is left
 * @returns their keys
 */
export function retainedOutcomes(
  ids: readonly UpdateId[],
  read: (id: UpdateId) => Progress | undefined,
): Set<string> {
  if (ids[0]?.channel === keySetChannel) return new Set(ids.map(updateKey));
  const sorted = [...ids].sort((a, b) => b.version - a.version);
  const stay = new Set(sorted.slice(0, keptOutcomes).map(updateKey));
  if (stay.size === sorted.length) return stay;
  const isReal = (id: UpdateId): boolean => read(id)?.noop === false;
  const isContent = (id: UpdateId): boolean => {
    const outcome = read(id);
    return outcome !== undefined && isAppliedContent(outcome);
  };
  const newestReal = sorted.find(isReal);
  for (const id of [newestReal, sorted.find(isContent)])
    if (id !== undefined) stay.add(updateKey(id));
  // A damaged or lost outcome may have been the high-water mark.
  for (const id of sorted)
    if (read(id) === undefined && id.version > (newestReal?.version ?? 0)) stay.add(updateKey(id));
  return stay;
}

/**
 * Removes announcements with their records and .torrent files; the announcement last, since the rest is
 * found by it. To be called under the advance lock.
 *
 * @param gone updates of which Transmission has nothing left, and on which no high-water mark rests
 */
export function pruneAnnouncements({ stateDir }: Config, gone: readonly UpdateId[]): void {
  for (const id of gone.slice(0, maxPruned)) {
    removeUpdateRecord(stateDir, id);
    rmSync(join(announcementsDir(stateDir), updateKey(id)), { force: true });
  }
}

/** Removes advance's own record of an update, and its .torrent. */
export function removeUpdateRecord(stateDir: string, id: UpdateId): void {
  removeRecord(join(updatesDir(stateDir), updateKey(id)));
  rmSync(join(torrentsDir(stateDir), torrentFileName(id)), { force: true });
}

/** Lists updates with a record or a .torrent file whose announcement is gone, at most 64. */
export function listOrphans({ stateDir }: Config): UpdateId[] {
  const torrents = listDirectory(torrentsDir(stateDir)).flatMap(
    (name) => parseTorrentFileName(name) ?? [],
  );
  return [...listRecords(updatesDir(stateDir)), ...torrents]
    .filter((id) => !isStored(stateDir, id))
    .slice(0, maxPruned);
}

/**
 * Removes old outcomes, the logs of their runs, and staged copies that are not needed any more; files with
 * foreign names stay. To be called under the apply lock.
 */
export function pruneApplySide({ applyDir }: Config): void {
  const directory = outcomesDir(applyDir);
  const logs = listDirectory(runsDir(applyDir)).flatMap((name) => parseLogName(name) ?? []);
  const channels = new Map<string, Map<string, UpdateId>>();
  for (const id of [...listRecords(directory), ...logs.map(({ id }) => id)]) {
    const ids = channels.get(id.channel) ?? new Map<string, UpdateId>();
    channels.set(id.channel, ids.set(updateKey(id), id));
  }
  let left = maxPruned;
  for (const ids of channels.values()) {
    const stay = retainedOutcomes([...ids.values()], (id) => readIfIntact(directory, id));
    for (const key of ids.keys()) {
      if (stay.has(key) || left === 0) continue;
      left -= 1;
      // A log without its outcome says that a fact was lost (lib/reconciler/apply/staging.ts), so it goes first.
      for (const { name, id } of logs)
        if (updateKey(id) === key) rmSync(join(runsDir(applyDir), name), { force: true });
      removeRecord(join(directory, key));
    }
  }
  for (const name of listDirectory(stagingDir(applyDir))) {
    const id = parseUpdateKey(name);
    if (id === undefined || left === 0 || isUnderWay(directory, id)) continue;
    left -= 1;
    rmSync(join(stagingDir(applyDir), name), { recursive: true, force: true });
  }
}

/**
 * Files an outcome under another version, without the logs of its runs: one without its outcome says that a
 * fact was lost. The new record comes first, so that a kill in between leaves both.
 */
export function renumberOutcome(
  applyDir: string,
  id: UpdateId,
  version: number,
  outcome: Progress,
  mode: number,
): void {
  const directory = outcomesDir(applyDir);
  const to = { channel: id.channel, version };
  // Content that was applied is all that later updates have to know.
  if (version > 0 && outcome.state === 'APPLIED')
    replaceRecord(join(directory, updateKey(to)), outcome, mode, 'a copy');
  for (const name of listDirectory(runsDir(applyDir))) {
    const log = parseLogName(name);
    if (log !== undefined && updateKey(log.id) === updateKey(id))
      rmSync(join(runsDir(applyDir), name), { force: true });
  }
  removeRecord(join(directory, updateKey(id)));
}

/** Whether a staged copy is needed, or may be, as when its outcome is damaged. */
function isUnderWay(directory: string, id: UpdateId): boolean {
  const isRecorded = listRecords(directory).some((each) => updateKey(each) === updateKey(id));
  const state = readIfIntact(directory, id)?.state;
  return isRecorded && (state === undefined || /^(STAGED|APPLYING|FAILED)$/.test(state));
}

function parseLogName(name: string): { name: string; id: UpdateId } | undefined {
  const id = parseUpdateKey(/^(.*)-\d{1,9}\.log$/.exec(name)?.[1] ?? '');
  return id === undefined ? undefined : { name, id };
}

/** Removes a record; its generation before first, since that alone would count as the record. */
function removeRecord(file: string): void {
  for (const suffix of ['.previous', '.corrupt', ''])
    rmSync(`${file}${suffix}`, { recursive: true, force: true });
}
