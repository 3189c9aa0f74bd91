import { applicationOrder } from '../../announcement/fields.ts';
import { idOf, type Update, type UpdateId, updateKey } from '../../announcement/update.ts';
import type { Config } from '../../config.ts';
import { describeError, hasErrno, UpdateError } from '../../errors.ts';
import { loadVerified } from '../../state/candidates.ts';
import { HeldUpdates } from '../../state/held.ts';
import { keySetsDir, outcomesDir, prepareApplyDir, runFile } from '../../state/layout.ts';
import { recordMachine } from '../../state/machine.ts';
import { listMarkers, removeMarker } from '../../state/markers.ts';
import { readProgress } from '../../state/progress.ts';
import { pruneApplySide } from '../../state/retention.ts';
import { removeLeftOvers } from '../../system/durable-write.ts';
import { endProcessGroup } from '../../system/process-group.ts';
import { readRecord, replaceRecord } from '../../system/record.ts';
import { applyOne, maxPauseSeconds } from './apply-one.ts';
import { type ApplyDeps, endOutcome, isRollback } from './outcomes.ts';
import { removeStaging, stage } from './staging.ts';

/** Does something for one update; a failure is logged, and comes to `otherwise`. */
type Attempt = <T>(id: UpdateId, work: () => T | Promise<T>, otherwise: T) => Promise<T>;

/**
 * Runs the apply side's pass: stages completed downloads, applies due updates in order, and records each
 * outcome, until nothing is left to do now. Level-triggered: it can be killed at any instant and run
 * again. To be called under the apply lock.
 *
 * Nothing but an info hash is taken from the side that talks to the network: announcements are
 * verified again, and only a verified copy is applied (docs/trust.md#three-users).
 *
 * @throws UpdateError `configuration` at the end, when a record is damaged beyond repair; the system's error
 *   when a disk is full
 */
export async function applyReady(config: Config, deps: ApplyDeps): Promise<void> {
  prepareApplyDir(config.applyDir);
  recordMachine(config.applyDir);
  const { applyDir } = config;
  for (const directory of [applyDir, outcomesDir(applyDir), keySetsDir(applyDir)])
    removeLeftOvers(directory, deps.nowSeconds() * 1000);
  await endSurvivor(config.applyDir);
  const tried = new Set<string>();
  const faults = new Map<string, unknown>();
  // A fault of one update, such as a full disk, must not hold up the other channels.
  const attempt: Attempt = async (id, work, otherwise) => {
    try {
      return await work();
    } catch (error) {
      if (!faults.has(updateKey(id)))
        deps.log({ decision: 'wait', reason: describeError(error), ...idOf(id) });
      faults.set(updateKey(id), error);
      return otherwise;
    }
  };
  const held = new HeldUpdates(config);
  for (;;) {
    // A withdrawal that came meanwhile counts.
    held.refresh();
    const { current, ended } = await loadVerified(held);
    for (const each of ended)
      if (await attempt(each.id, () => endOutcome(config.applyDir, each, deps), false))
        removeStaging(config.applyDir, each.id);
    const isPast = (update: Update): boolean =>
      isRollback(config.applyDir, update, deps.nowSeconds());
    const updates = current.filter((update) => !isPast(update));
    // The marker of a rolled-back update stays: advance would make it again, and wake this side, for ever.
    await stageAll(config, deps, updates, current.filter(isPast), attempt);
    const due: Update[] = [];
    for (const update of updates.filter((each) => !tried.has(updateKey(each))))
      if (await attempt(update, () => isDue(config.applyDir, update, deps.nowSeconds()), false))
        due.push(update);
    const [first] = due.sort((a, b) => applicationOrder(a.kind) - applicationOrder(b.kind));
    if (first === undefined) break;
    tried.add(updateKey(first));
    await applyOne(held, deps, first);
    // Updates that failed before may have lacked this module.
    if (first.kind === 'module') tried.clear();
  }
  pruneApplySide(config);
  // Thrown at the end: a person has to deal with a record that is damaged beyond repair, or a full disk.
  for (const error of faults.values()) if (isForPerson(error)) throw error;
}

/**
 * Stages updates that are marked as complete, and removes the markers that have served, and those of
 * torrents that are no current update: superseded, not ours, or of an announcement that has yet to
 * come, which advance then marks again.
 */
async function stageAll(
  config: Config,
  deps: ApplyDeps,
  updates: readonly Update[],
  past: readonly Update[],
  attempt: Attempt,
): Promise<void> {
  const { applyDir } = config;
  // Two channels may have the same content, and so one marker.
  const needed = new Set(past.map(({ infoHash }) => infoHash));
  for (const update of updates) {
    if (!(await attempt(update, () => stage(config, deps, update), false)))
      needed.add(update.infoHash);
  }
  for (const name of [...updates.map(({ infoHash }) => infoHash), ...listMarkers(applyDir)])
    if (!needed.has(name)) removeMarker(applyDir, name);
}

function isForPerson(error: unknown): boolean {
  if (error instanceof UpdateError && error.code === 'configuration') return true;
  const cause = error instanceof UpdateError ? error.cause : error;
  return hasErrno(cause, 'ENOSPC', 'EDQUOT', 'EROFS', 'EIO');
}

/** Ends the Puppet that a killed apply left running: two runs at once would interleave. */
async function endSurvivor(applyDir: string): Promise<void> {
  const file = runFile(applyDir);
  const run = readRecord(file) as { processGroup: number; startTime: string } | null | undefined;
  if (run === null || run === undefined) return;
  await endProcessGroup(run);
  replaceRecord(file, null, 0o600, 'a copy');
}

function isDue(applyDir: string, update: Update, nowSeconds: number): boolean {
  const outcome = readProgress(outcomesDir(applyDir), update);
  switch (outcome?.state) {
    case 'STAGED':
    case 'APPLYING': // interrupted: this process holds the lock
    case 'FAILED':
      // Later than any pause: it was set by a clock that was ahead.
      return outcome.nextTryAt <= nowSeconds || outcome.nextTryAt > nowSeconds + maxPauseSeconds;
    default:
      return false;
  }
}
