import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { acceptPayload } from './accept.ts';
import { loadCandidates, type EndedUpdate } from './candidates.ts';
import { isMarked } from './completion.ts';
import type { Config } from './config.ts';
import { removeLeftOvers } from './durable.ts';
import { UpdateError, describeError, hasErrno } from './errors.ts';
import { removeLeftOverTrackers } from './feed.ts';
import { decideStep } from './next-step.ts';
import { outcomesDir, readProgress, updatesDir } from './progress.ts';
import { isLegalStep } from './states.ts';
import { factDirectories, listPending, prepareStateDir, readAccepted } from './store.ts';
import { takeStep, walkTo, type AdvanceDeps, type Chore } from './take-step.ts';
import { ensureSettings } from './transmission-settings.ts';
import type { Torrent } from './transmission.ts';
import {
  contentLocation,
  idOf,
  looksLikeTorrent,
  parseAnnouncement,
  type Update,
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
  const { current, ended, unusable } = await loadCandidates(config);
  for (const { id, reason } of unusable) log({ decision: 'wait', reason, ...idOf(id) });
  // An emergency stop must not wait for a daemon that is down.
  const chores: Chore[] = [];
  const isWithdrawal = ({ kind }: Update): boolean => kind === 'withdraw';
  for (const update of current.filter(isWithdrawal))
    chores.push(...(await stepOf(config, deps, update, undefined)));
  const endedHashes = new Map(
    ended
      .map((each) => ({ ...each, infoHash: end(config, deps, each) }))
      // Signed again by other keys (submit --renew), it must be downloaded nowhere again.
      .filter(({ id, isRevoked }) => isRevoked !== true || !isApplied(config, id))
      .map(({ id, infoHash }) => [id, infoHash]),
  );
  if (current.length === 0 && endedHashes.size === 0) return chores;

  for (const warning of await ensureSettings(transmission, deps.hook)) deps.warn(warning);
  await removeLeftOverTrackers(transmission).catch((error: unknown) => {
    // They do no harm: the next wake-up removes them.
    log({ decision: 'wait', reason: describeError(error) });
  });
  const torrents = new Map((await transmission.list()).map((each) => [each.infoHash, each]));
  const wanted = new Set(current.map((update) => update.infoHash));
  for (const [id, infoHash] of endedHashes) {
    if (infoHash === undefined || wanted.has(infoHash) || !torrents.has(infoHash)) continue;
    await transmission.remove(infoHash, { deleteData: true });
    removePublished(config, id);
  }
  for (const update of current.filter((each) => !isWithdrawal(each)))
    chores.push(...(await stepOf(config, deps, update, torrents.get(update.infoHash))));
  return chores;
}

/** The next step of one update, which must not hold up the other channels when it cannot go on. */
async function stepOf(
  config: Config,
  deps: AdvanceDeps,
  update: Update,
  torrent: Torrent | undefined,
): Promise<Chore[]> {
  try {
    const step = decideStep({
      update,
      torrent,
      progress: readProgress(updatesDir(config.stateDir), update),
      outcome: readProgress(outcomesDir(config.applyDir), update),
      isMarked: isMarked(config.applyDir, update.infoHash),
      now: deps.now(),
    });
    return await takeStep(step, config, deps, update);
  } catch (error) {
    deps.log({ decision: 'wait', reason: describeError(error), ...idOf(update) });
    return [];
  }
}

function isApplied({ applyDir }: Config, id: UpdateId): boolean {
  return readProgress(outcomesDir(applyDir), id)?.state === 'APPLIED';
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

/** Ends an update that must not go on and that the apply side has not begun; returns its info hash. */
function end(config: Config, deps: AdvanceDeps, ended: EndedUpdate): string | undefined {
  const { id, state, reason } = ended;
  const progress = readProgress(updatesDir(config.stateDir), id);
  if (progress === undefined) return undefined;
  const isOpen = isLegalStep(progress.state, state) || progress.state === 'STALLED';
  const isBegun = readProgress(outcomesDir(config.applyDir), id) !== undefined;
  if (progress.state !== state && isOpen && !isBegun)
    walkTo(config, deps, { ...id, ...progress }, state, reason);
  return progress.infoHash;
}
