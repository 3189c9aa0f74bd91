import { chmodSync, mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { loadCandidates } from './candidates.ts';
import { completeDir, completeDirMode, listMarkers, removeMarker } from './completion.ts';
import type { Config } from './config.ts';
import { isIntact } from './content-copy.ts';
import { detectKind } from './detect.ts';
import { removeLeftOvers } from './durable.ts';
import { UpdateError, describeError } from './errors.ts';
import { applyContent } from './install.ts';
import { keySetsDir } from './key-chain.ts';
import { endOutcome, isRollback, outcomeMode } from './outcomes.ts';
import { endProcessGroup } from './process-group.ts';
import { outcomesDir, readProgress, writeProgress, type Progress } from './progress.ts';
import type { ApplyResult } from './puppet.ts';
import { readRecord, replaceRecord } from './record.ts';
import { copyToStaging, removeStaging, stage, stagingOf, type ApplyDeps } from './staging.ts';
import { takeUpKeySet } from './take-up-key-set.ts';
import { idOf, isExpired, updateKey, type Update } from './update.ts';

const maxTries = 3;
/** Seconds before the second and the third try. */
const backOffSeconds = [60, 600];
/** What is ready at once is applied in this order (design: kinds of update). */
const kindOrder = ['keyset', 'module', 'environment', 'manifest', 'file', 'withdraw'];

/** Creates what is missing of the apply side's directories; staging is closed to everybody else. */
export function prepareApplyDir(applyDir: string): void {
  const modes: [directory: string, mode: number][] = [
    [applyDir, 0o755],
    [outcomesDir(applyDir), 0o755],
    [keySetsDir(applyDir), 0o755],
    [join(applyDir, 'modules'), 0o755],
    [join(applyDir, 'staging'), 0o700],
    [join(applyDir, 'runs'), 0o700],
    [completeDir(applyDir), completeDirMode],
  ];
  for (const [directory, mode] of modes)
    // The modes are these whatever the umask is; a set-up's own group stays.
    if (mkdirSync(directory, { recursive: true, mode: 0o700 }) !== undefined)
      chmodSync(directory, mode);
}

/**
 * The apply side's pass: stages what Transmission has completed, applies what is due, in order, and
 * records each outcome, until nothing is left to do now. Level-triggered: it can be killed at any
 * instant and run again. To be called under the apply lock.
 *
 * Nothing but an info hash is taken from the side that talks to the network: announcements are
 * verified again, and only a verified copy is applied.
 */
export async function applyReady(config: Config, deps: ApplyDeps): Promise<void> {
  prepareApplyDir(config.applyDir);
  removeLeftOvers(outcomesDir(config.applyDir), deps.now() * 1000);
  await endSurvivor(config.applyDir);
  const tried = new Set<string>();
  for (;;) {
    const { current, ended } = await loadCandidates(config);
    for (const each of ended)
      if (endOutcome(config.applyDir, each, deps)) removeStaging(config.applyDir, each.id);
    const isPast = (update: Update): boolean => isRollback(config.applyDir, update);
    const updates = current.filter((update) => !isPast(update));
    // The marker of what is past stays: advance would make it again, and wake us for it, for ever.
    await stageAll(config, deps, updates, current.filter(isPast));
    const [first] = updates
      .filter((update) => !tried.has(updateKey(update)))
      .filter((update) => isDue(config.applyDir, update, deps.now()))
      .sort((a, b) => kindOrder.indexOf(a.kind ?? 'file') - kindOrder.indexOf(b.kind ?? 'file'));
    if (first === undefined) return;
    tried.add(updateKey(first));
    await applyOne(config, deps, first);
    // What failed before may have waited for this module.
    if (first.kind === 'module') tried.clear();
  }
}

/**
 * Stages what is marked as complete, and removes the markers that have served, and those of torrents
 * that are no current update: superseded, somebody else's, or of an announcement that has yet to
 * come, which advance then marks again.
 */
async function stageAll(
  config: Config,
  deps: ApplyDeps,
  updates: readonly Update[],
  past: readonly Update[],
): Promise<void> {
  const { applyDir } = config;
  // Two channels may have the same content, and so one marker.
  const needed = new Set(past.map(({ infoHash }) => infoHash));
  for (const update of updates) {
    const hasServed = await stage(config, deps, update).catch((error: unknown) => {
      // Such as a full disk: it must not hold up the other channels.
      deps.log({ decision: 'wait', reason: describeError(error), ...idOf(update) });
      return false;
    });
    if (!hasServed) needed.add(update.infoHash);
  }
  for (const name of [...updates.map(({ infoHash }) => infoHash), ...listMarkers(applyDir)])
    if (!needed.has(name)) removeMarker(applyDir, name);
}

/** Ends what a killed apply left running: two Puppet runs at once would interleave. */
async function endSurvivor(applyDir: string): Promise<void> {
  const file = join(applyDir, 'run');
  const run = readRecord(file) as { processGroup: number; startTime: string } | null | undefined;
  if (run === null || run === undefined) return;
  await endProcessGroup(run);
  replaceRecord(file, null, 0o600);
}

function isDue(applyDir: string, update: Update, now: number): boolean {
  const outcome = readProgress(outcomesDir(applyDir), update);
  switch (outcome?.state) {
    case 'STAGED':
    case 'APPLYING': // interrupted: nobody else holds the lock
      return true;
    case 'FAILED':
      return outcome.nextTryAt <= now;
    default:
      return false;
  }
}

/** STAGED -> APPLYING -> APPLIED, or FAILED and after the last try POISONED. */
async function applyOne(config: Config, deps: ApplyDeps, update: Update): Promise<void> {
  const { applyDir } = config;
  const key = updateKey(update);
  const found = readProgress(outcomesDir(applyDir), update);
  if (found === undefined) return;
  let outcome: Progress = found;
  const step = (state: Progress['state'], reason: string, more: Partial<Progress> = {}): void => {
    const change = { ...more, state, reason };
    outcome = writeProgress(
      outcomesDir(applyDir),
      update,
      outcome,
      change,
      deps.now(),
      outcomeMode,
    );
    if (state !== 'STAGED' && state !== 'APPLYING')
      deps.log({ decision: state.toLowerCase(), reason, ...idOf(update) });
  };
  // Only now: without Puppet, or with a damaged copy, nothing has begun.
  const begin = (): void => {
    if (outcome.state === 'STAGED') step('APPLYING', 'started');
  };
  const giveUp = (reason: string, more: Partial<Progress> = {}): void => {
    begin();
    step('FAILED', reason, more);
    step('POISONED', reason);
    removeStaging(applyDir, update);
  };

  if (outcome.state === 'FAILED' && isExpired(update, deps.now())) {
    step('POISONED', 'it expired before it could be applied');
    return;
  }
  if (outcome.state === 'STAGED' && isExpired(update, deps.now())) {
    step('EXPIRED', 'it expired before it could be applied');
    removeStaging(applyDir, update);
    return;
  }
  const kind = update.kind ?? (await detectKind(stagingOf(applyDir, update).copy)).kind;
  if (kind === 'withdraw') return;
  if (outcome.state === 'FAILED') step('STAGED', 'trying again');

  const { directory, copy } = stagingOf(applyDir, update);
  const log = join(applyDir, 'runs', `${key}-${outcome.tries + 1}.log`);
  const runFile = join(applyDir, 'run');
  let result: ApplyResult;
  try {
    // Ours, and flushed: only a damaged disk or a person's hand makes this necessary.
    const mismatch = (await isIntact(copy, update))
      ? undefined
      : await copyToStaging(config, update);
    if (mismatch !== undefined)
      throw new UpdateError('malformed', `the staged copy is damaged: ${mismatch}`, {
        hint: 'check the disk, then submit the content again with --rerun',
      });
    if (kind === 'keyset') result = takeUpKeySet(config, update, copy);
    else {
      const workDir = join(directory, 'work');
      rmSync(workDir, { recursive: true, force: true });
      mkdirSync(workDir, { mode: 0o700 });
      const { name, channel, version, noop } = update;
      result = await applyContent({
        ...{ kind, name, channel, version, noop, workDir },
        contentPath: copy,
        logFile: log,
        config: {
          ...config.puppet,
          deliveryDir: config.deliveryDir,
          moduleStoreDir: join(applyDir, 'modules'),
        },
        onStart: (run) => {
          replaceRecord(runFile, run, 0o600);
          begin();
        },
      });
    }
  } catch (error) {
    const reason = describeError(error);
    if (error instanceof UpdateError && error.code === 'malformed') {
      giveUp(reason);
      return;
    }
    // Puppet is missing, the disk is full: no try of this update. It is taken up where it is.
    deps.log({ decision: 'wait', reason, ...idOf(update) });
    return;
  }
  replaceRecord(runFile, null, 0o600);
  begin();
  const { ok, reason, ...counts } = result;
  const run = { log, ...counts };
  if (ok) {
    step('APPLIED', reason, { run });
    removeStaging(applyDir, update);
    if (kind === 'module') await retryForModule(config, deps);
    return;
  }
  const tries = outcome.tries + 1;
  const nextTryAt = deps.now() + (backOffSeconds[tries - 1] ?? 0);
  if (tries >= maxTries) giveUp(reason, { run, tries });
  else step('FAILED', reason, { run, tries, nextTryAt });
  return;
}

/** A manifest may have failed for want of this module: it is due at once, with all its tries. */
async function retryForModule(config: Config, { now }: ApplyDeps): Promise<void> {
  const directory = outcomesDir(config.applyDir);
  for (const update of (await loadCandidates(config)).current) {
    const outcome = readProgress(directory, update);
    if (outcome?.state !== 'FAILED' || update.kind === 'module' || update.kind === 'file') continue;
    const change = { state: 'FAILED' as const, reason: outcome.reason, nextTryAt: 0, tries: 0 };
    writeProgress(directory, update, outcome, change, now(), outcomeMode);
  }
}
