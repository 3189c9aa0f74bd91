import { rmSync } from 'node:fs';
import { join } from 'node:path';
import type { Config } from '../config.ts';
import { listRecords, outcomesDir, readIfIntact, updatesDir } from './progress.ts';
import { outcomesThatStay } from './retention.ts';
import { listAccepted, listDirectory } from './facts.ts';
import { parseTorrentFileName, torrentFileName } from '../reconciler/advance/torrent-file.ts';
import { parseUpdateKey, updateKey, type UpdateId } from '../announcement/update.ts';

/** In one pass: a flood that is over must not keep the lock. */
const maxPruned = 64;

/**
 * Removes announcements that are past, with all that belongs to them; the announcement last, or
 * nobody would come back for the rest. To be called under the advance lock.
 *
 * @param gone of which Transmission has nothing left, and which no mark rests on
 */
export function pruneAnnouncements({ stateDir }: Config, gone: readonly UpdateId[]): void {
  for (const id of gone.slice(0, maxPruned)) {
    removeUpdateRecord(stateDir, id);
    rmSync(join(stateDir, 'announcements', updateKey(id)), { force: true });
  }
}

/** Removes advance's own record of an update, and its .torrent. */
export function removeUpdateRecord(stateDir: string, id: UpdateId): void {
  removeRecord(join(updatesDir(stateDir), updateKey(id)));
  rmSync(join(stateDir, 'torrents', torrentFileName(id)), { force: true });
}

/** The records and .torrent files whose announcement is gone, a bounded number. */
export function listOrphans({ stateDir }: Config): UpdateId[] {
  const held = new Set(listAccepted(stateDir).map(updateKey));
  const torrents = listDirectory(join(stateDir, 'torrents')).flatMap(
    (name) => parseTorrentFileName(name) ?? [],
  );
  return [...listRecords(updatesDir(stateDir)), ...torrents]
    .filter((id) => !held.has(updateKey(id)))
    .slice(0, maxPruned);
}

/**
 * Removes what is old on the apply side: outcomes, the logs of their runs, and staged copies that nothing
 * will come back for. What has another name than ours is left alone. To be called under the apply lock.
 */
export function pruneApplySide({ applyDir }: Config): void {
  const directory = outcomesDir(applyDir);
  const logs = listDirectory(join(applyDir, 'runs')).flatMap((name) => parseLogName(name) ?? []);
  const channels = new Map<string, Map<string, UpdateId>>();
  for (const id of [...listRecords(directory), ...logs.map(({ id }) => id)]) {
    const ids = channels.get(id.channel) ?? new Map<string, UpdateId>();
    channels.set(id.channel, ids.set(updateKey(id), id));
  }
  let left = maxPruned;
  for (const ids of channels.values()) {
    const stay = outcomesThatStay([...ids.values()], (id) => readIfIntact(directory, id));
    for (const key of ids.keys()) {
      if (stay.has(key) || left === 0) continue;
      left -= 1;
      // A log without its outcome says that a fact was lost (lib/reconciler/apply/staging.ts), so it goes first.
      for (const { name, id } of logs)
        if (updateKey(id) === key) rmSync(join(applyDir, 'runs', name), { force: true });
      removeRecord(join(directory, key));
    }
  }
  for (const name of listDirectory(join(applyDir, 'staging'))) {
    const id = parseUpdateKey(name);
    if (id === undefined || left === 0 || isUnderWay(directory, id)) continue;
    left -= 1;
    rmSync(join(applyDir, 'staging', name), { recursive: true, force: true });
  }
}

/** Whether a staged copy is needed, or may be. */
function isUnderWay(directory: string, id: UpdateId): boolean {
  const isRecorded = listRecords(directory).some((each) => updateKey(each) === updateKey(id));
  const state = readIfIntact(directory, id)?.state;
  return isRecorded && (state === undefined || /^(STAGED|APPLYING|FAILED)$/.test(state));
}

function parseLogName(name: string): { name: string; id: UpdateId } | undefined {
  const id = parseUpdateKey(/^(.*)-\d{1,9}\.log$/.exec(name)?.[1] ?? '');
  return id === undefined ? undefined : { name, id };
}

/** The generation before first: alone it would count as the record. */
function removeRecord(file: string): void {
  for (const suffix of ['.previous', '.corrupt', ''])
    rmSync(`${file}${suffix}`, { recursive: true, force: true });
}
