import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { acceptPayload } from './accept.ts';
import { loadCandidates } from './candidates.ts';
import type { Config } from './config.ts';
import { removeLeftOvers } from './durable.ts';
import { UpdateError, describeError, hasErrno } from './errors.ts';
import { removeLeftOverTrackers } from './feed.ts';
import { decideStep } from './next-step.ts';
import { outcomesDir, readProgress, updatesDir } from './progress.ts';
import { isLegalStep } from './states.ts';
import {
  factDirectories,
  listComplete,
  listPending,
  prepareStateDir,
  readAccepted,
} from './store.ts';
import { takeStep, walkTo, type AdvanceDeps, type Chore } from './take-step.ts';
import { ensureSettings } from './transmission-settings.ts';
import {
  contentLocation,
  idOf,
  looksLikeTorrent,
  parseAnnouncement,
  type UpdateId,
} from './update.ts';

/**
 * Advance's pass over all channels: queues in Transmission what is accepted, notices what is
 * complete, drops what is superseded. Level-triggered: compares the facts with Transmission's state
 * and takes the next legal step of each. To be called under the advance lock; never waits long.
 *
 * @returns the chores that it began, to be awaited without the lock
 * @throws UpdateError `unavailable` and others when Transmission does not answer; all facts stay
 */
export async function advance(config: Config, deps: AdvanceDeps): Promise<Chore[]> {
  const { transmission, now, log } = deps;
  prepareStateDir(config.stateDir);
  for (const name of factDirectories) removeLeftOvers(join(config.stateDir, name), now() * 1000);
  await offerPending(config, deps);
  const { current, superseded } = await loadCandidates(config);
  if (current.length === 0) return [];

  for (const warning of await ensureSettings(transmission, deps.hook)) deps.warn(warning);
  await removeLeftOverTrackers(transmission);
  const torrents = new Map((await transmission.list()).map((each) => [each.infoHash, each]));
  const wanted = new Set(current.map((update) => update.infoHash));
  for (const id of superseded) {
    const infoHash = supersede(config, deps, id);
    if (infoHash === undefined || wanted.has(infoHash) || !torrents.has(infoHash)) continue;
    await transmission.remove(infoHash, { deleteData: true });
    removePublished(config, id);
  }

  const marked = new Set(listComplete(config.stateDir));
  const chores: Chore[] = [];
  for (const update of current) {
    const { infoHash } = update;
    try {
      const step = decideStep({
        update,
        torrent: torrents.get(infoHash),
        progress: readProgress(updatesDir(config.stateDir), update),
        outcome: readProgress(outcomesDir(config.applyDir), update),
        isMarked: marked.has(infoHash),
        now: now(),
      });
      chores.push(...(await takeStep(step, config, deps, update)));
    } catch (error) {
      // One update that cannot go on must not hold up the other channels.
      log({ decision: 'wait', reason: describeError(error), ...idOf(update) });
    }
  }
  return chores;
}

/** Removes submitted content that the daemon, which only reads it, could not delete. */
function removePublished({ stateDir, publishDir }: Config, id: UpdateId): void {
  const stored = readAccepted(stateDir, id);
  if (stored === undefined || looksLikeTorrent(Buffer.from(stored.payload))) return;
  const { update } = parseAnnouncement(stored.payload);
  try {
    rmSync(contentLocation(update, publishDir).file, { force: true });
  } catch (error) {
    // The directory is the operator's; where we may not write, it is for submit to clean up.
    if (!hasErrno(error, 'EACCES', 'EPERM', 'EROFS')) throw error;
  }
}

/** Looks again at what waited for a plausible clock. */
async function offerPending(config: Config, deps: AdvanceDeps): Promise<void> {
  const clock = { now: deps.now(), buildTime: deps.buildTime };
  for (const { file, payload } of listPending(config.stateDir)) {
    try {
      const { decision, update } = await acceptPayload(Buffer.from(payload), config, clock);
      if (decision.kind === 'wait') continue;
      deps.log({ decision: decision.kind, reason: decision.reason, ...idOf(update) });
    } catch (error) {
      if (error instanceof UpdateError && error.code === 'try-later') continue;
      deps.log({ decision: 'refuse', reason: describeError(error) });
    }
    rmSync(file, { force: true });
  }
}

/** Ends an older update that the apply side has not begun; returns its info hash. */
function supersede(config: Config, deps: AdvanceDeps, id: UpdateId): string | undefined {
  const progress = readProgress(updatesDir(config.stateDir), id);
  if (progress === undefined) return undefined;
  const isOpen = isLegalStep(progress.state, 'SUPERSEDED') || progress.state === 'STALLED';
  const isBegun = readProgress(outcomesDir(config.applyDir), id) !== undefined;
  if (progress.state !== 'SUPERSEDED' && isOpen && !isBegun)
    walkTo(config, deps, { ...id, ...progress }, 'SUPERSEDED', 'a newer version was accepted');
  return progress.infoHash;
}
