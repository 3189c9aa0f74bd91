import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { idOf, type Update, updateKey } from '../../announcement/update.ts';
import type { Config } from '../../config.ts';
import { ensureSettings } from '../../daemons/transmission/settings.ts';
import type { Torrent } from '../../daemons/transmission/torrent.ts';
import { describeError, UpdateError } from '../../errors.ts';
import { acceptPayload } from '../../state/accept.ts';
import { type EndedUpdate, loadVerified, type VerifiedUpdates } from '../../state/candidates.ts';
import { dataDirectories, isCopied, isSamePath } from '../../state/content-place.ts';
import { removeHealed } from '../../state/equivocation.ts';
import { listPending } from '../../state/facts.ts';
import { HeldUpdates } from '../../state/held.ts';
import { outcomesDir, prepareStateDir, stateDirectories, updatesDir } from '../../state/layout.ts';
import { isMarked } from '../../state/markers.ts';
import { readIfIntact, readProgress } from '../../state/progress.ts';
import { listOrphans } from '../../state/retention.ts';
import { isLegalStep, isPastContent } from '../../state/states.ts';
import { removeLeftOvers } from '../../system/durable-write.ts';
import { type Attempt, cleanUp } from './clean-up.ts';
import { decideStep, loadingSeconds, type Step } from './next-step.ts';
import { reseed } from './reseed.ts';
import {
  type AdvanceDeps,
  type BackgroundTask,
  recordHindrance,
  requireSpace,
  takeStep,
  transitionTo,
} from './take-step.ts';
import { lookAtData, lookAtSpace, removeCopies } from './torrent-data.ts';

/** Time after which a pass begins nothing more: a daemon that hangs must not keep its lock for long. */
const maxPassMs = 40_000;

/**
 * Runs advance's pass over all channels: queues accepted updates in Transmission, notices completed ones,
 * drops superseded ones, removes data that nothing refers to. Level-triggered: compares the facts with
 * Transmission's state and takes the next legal step of each. To be called under the advance lock; never
 * waits long.
 *
 * @returns the background tasks that it began, to be awaited without the lock; a damaged record or a full
 *   disk is a task that fails, and so is a Transmission that does not answer: all facts stay
 */
export async function advance(config: Config, deps: AdvanceDeps): Promise<BackgroundTask[]> {
  const { nowSeconds, log } = deps;
  prepareStateDir(config.stateDir);
  for (const name of ['', ...Object.keys(stateDirectories)])
    removeLeftOvers(join(config.stateDir, name), nowSeconds() * 1000);
  await offerPending(config, deps);
  const held = new HeldUpdates(config);
  removeHealed(held, nowSeconds());
  const { current, ended, unusable } = await loadVerified(held);
  for (const { id, reason } of unusable) log({ decision: 'wait', reason, ...idOf(id) });
  const tasks: BackgroundTask[] = [];
  const deadline = performance.now() + maxPassMs;
  const attempt: Attempt = async (id, work) => {
    if (performance.now() > deadline) throw tooSlow();
    try {
      return await work();
    } catch (error) {
      if (error instanceof UpdateError && error.code === 'unavailable') throw error;
      log({ decision: 'wait', reason: describeError(error), ...idOf(id) });
      const update = current.find((each) => updateKey(each) === updateKey(id));
      if (update !== undefined) recordHindrance(config, deps, update, describeError(error));
      // A person has to put it right: the record that is damaged, the disk that is full.
      if (error instanceof UpdateError && /^(configuration|try-later)$/.test(error.code))
        tasks.push(failedTask(error));
      return undefined;
    }
  };
  const take = async (update: Update, step: Step | undefined): Promise<void> => {
    const begun = await attempt(update, () => step && takeStep(step, config, deps, update));
    tasks.push(...(begun ?? []));
  };

  const isWithdrawal = ({ kind }: Update): boolean => kind === 'withdraw';
  // An emergency stop must not wait for a daemon that is down.
  for (const update of current.filter(isWithdrawal)) {
    const none = { torrent: undefined, daemonSeconds: 0 };
    await take(update, await attempt(update, () => nextStep(config, deps, update, none)));
  }
  for (const each of ended)
    await attempt(each.id, () => {
      end(config, deps, each);
    });
  if (current.length + ended.length + listOrphans(config).length === 0) return tasks;

  try {
    await advanceTorrents(held, deps, { current, ended }, attempt, take, tasks);
  } catch (error) {
    if (!(error instanceof UpdateError)) throw error;
    // The daemon does not answer: one call that shows it is enough for all channels.
    log({ decision: 'wait', reason: describeError(error) });
    for (const update of current)
      if (!isWithdrawal(update) && !isBeyondContent(config, update))
        recordHindrance(config, deps, update, describeError(error));
    tasks.push(failedTask(error));
  }
  return tasks;
}

/** Takes the next steps of the updates that need Transmission, and cleans up. */
async function advanceTorrents(
  held: HeldUpdates,
  deps: AdvanceDeps,
  { current, ended }: Pick<VerifiedUpdates, 'current' | 'ended'>,
  attempt: Attempt,
  take: (update: Update, step: Step | undefined) => Promise<void>,
  tasks: BackgroundTask[],
): Promise<void> {
  const { config } = held;
  const daemon = await askDaemon(deps);
  const planned: { update: Update; step: Step | undefined }[] = [];
  for (const update of current.filter((each) => each.kind !== 'withdraw')) {
    const torrent = daemon.torrents.get(update.infoHash);
    const found = { torrent, daemonSeconds: daemon.seconds };
    const step = await attempt(update, () => nextStep(config, deps, update, found));
    planned.push({ update, step });
  }
  const isDropped = ({ step }: (typeof planned)[number]): boolean => step?.kind === 'drop';
  const dropped = planned.filter(isDropped);
  const goesOn = planned.filter((each) => !isDropped(each));
  for (const { update, step } of dropped) await take(update, step);
  // Before torrents are added, which may need the space.
  const past = [...dropped.map(({ update }) => ({ id: idOf(update) })), ...ended];
  await cleanUp(
    held,
    { ...daemon, transmission: deps.transmission },
    goesOn.map(({ update }) => update),
    past,
    () => isSpaceLow(config, deps, goesOn),
    deps.nowSeconds(),
    attempt,
  );
  for (const { update, step } of goesOn) await take(update, step);
  removeCopies(config, () =>
    goesOn.map(({ update }) => update).filter((update) => !isBeyondContent(config, update)),
  );
  tasks.push(...(await reseed(held, daemon, deps, attempt)));
}

/** Puts Transmission's settings right, and lists its torrents. */
async function askDaemon({ transmission, hooks, warn }: AdvanceDeps): Promise<{
  torrents: Map<string, Torrent>;
  seconds: number;
  isSettled: boolean;
}> {
  for (const warning of await ensureSettings(transmission, hooks)) warn(warning);
  // Asked before the list, or its age could be overestimated.
  const seconds = await transmission.secondsActive();
  const listed = await transmission.list();
  const torrents = new Map(listed.map((each) => [each.infoHash, each]));
  return { torrents, seconds, isSettled: seconds >= loadingSeconds };
}

/** Whether an update that is to be added lacks the space: then no earlier content is worth its own. */
async function isSpaceLow(
  config: Config,
  deps: AdvanceDeps,
  planned: readonly { update: Update; step: Step | undefined }[],
): Promise<boolean> {
  for (const { update, step } of planned) {
    if (step?.kind !== 'add' && step?.kind !== 're-add') continue;
    try {
      await requireSpace(config, deps, update, step);
    } catch (error) {
      if (!(error instanceof UpdateError)) throw error;
      // Any other failure is that of the step, which makes the same request.
      if (error.code === 'try-later') return true;
    }
  }
  return false;
}

/** Whether the apply side needs the content of an update no more. */
function isBeyondContent({ applyDir }: Config, update: Update): boolean {
  const outcome = readIfIntact(outcomesDir(applyDir), update);
  return outcome !== undefined && isPastContent(outcome.state);
}

/** Gathers the facts of one update, and decides its next step. */
function nextStep(
  config: Config,
  { nowSeconds, unannounced }: AdvanceDeps,
  update: Update,
  { torrent, daemonSeconds }: { torrent: Torrent | undefined; daemonSeconds: number },
): Step {
  const [download, publish] = dataDirectories(config, update);
  const directory = torrent?.downloadDir ?? download;
  const isIn = (place: string): boolean => isSamePath(directory, place);
  const place = isIn(download) ? 'download' : isIn(publish) ? 'publish' : 'other';
  const data = torrent === undefined ? 'missing' : lookAtData(config, torrent, update);
  return decideStep({
    update,
    torrent,
    data,
    // Of one that runs, or is whole, nothing depends on it.
    space:
      data === 'cut' || torrent?.status === 'stopped' ? lookAtSpace(directory, update) : undefined,
    place,
    daemonSeconds,
    isCopied: place === 'other' && isCopied(config, update),
    isUnannounced: unannounced.has(update.infoHash),
    progress: readProgress(updatesDir(config.stateDir), update),
    outcome: readProgress(outcomesDir(config.applyDir), update),
    isMarked: isMarked(config.applyDir, update.infoHash),
    nowSeconds: nowSeconds(),
  });
}

function tooSlow(): UpdateError {
  return new UpdateError('unavailable', `Transmission took over ${maxPassMs / 1000} s for a pass`, {
    hint: 'the next one goes on; if this stays so, restart transmission-daemon',
  });
}

/** A task that fails with an error, which is thrown when the background tasks are awaited. */
function failedTask(error: UpdateError): BackgroundTask {
  const task: BackgroundTask = Promise.reject(error);
  task.catch(() => undefined);
  return task;
}

/** Ends an update that must not go on and that the apply side has not begun. */
function end(config: Config, deps: AdvanceDeps, { id, state, reason }: EndedUpdate): void {
  const progress = readProgress(updatesDir(config.stateDir), id);
  if (progress === undefined || progress.state === state) return;
  const isOpen = isLegalStep(progress.state, state) || progress.state === 'STALLED';
  const isBegun = readProgress(outcomesDir(config.applyDir), id) !== undefined;
  if (isOpen && !isBegun) transitionTo(config, deps, { ...id, ...progress }, state, reason);
}

/** Decides anew on the announcements that wait for a plausible clock. */
async function offerPending(config: Config, deps: AdvanceDeps): Promise<void> {
  const clock = { nowSeconds: deps.nowSeconds(), buildTime: deps.buildTime };
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
