import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { idOf, isExpired, type Update, updateKey } from '../../announcement/update.ts';
import { isIntact } from '../../content/copy-verified.ts';
import { detectKind } from '../../content/detect-kind.ts';
import type { ApplyResult } from '../../daemons/puppet/puppet.ts';
import { describeError, UpdateError } from '../../errors.ts';
import { loadVerified } from '../../state/candidates.ts';
import { HeldUpdates } from '../../state/held.ts';
import { modulesDir, outcomesDir, runFile, runsDir } from '../../state/layout.ts';
import { type Progress, readIfIntact, readProgress, writeProgress } from '../../state/progress.ts';
import { replaceRecord } from '../../system/record.ts';
import { activateKeySet, applyContent } from './install.ts';
import { type ApplyDeps, outcomeMode } from './outcomes.ts';
import {
  absentContent,
  copyToStaging,
  maxBadContent,
  removeStaging,
  stagingOf,
} from './staging.ts';

const maxTries = 3;
/** Seconds before the second and the third try. */
const backOffSeconds = [60, 600];
/** So often is Puppet started again at once when it was ended from outside; then at ever longer intervals. */
const freeInterruptions = 5;
const maxPauseSeconds = 3600;
/** For advance to have a download checked that was staged, lost, and is wrong now. */
const checkSeconds = 60;

/**
 * STAGED -> APPLYING -> APPLIED, or FAILED and after the last try POISONED. To be called under the apply
 * lock; it can be killed at any instant and called again.
 */
export async function applyOne(held: HeldUpdates, deps: ApplyDeps, update: Update): Promise<void> {
  const { config } = held;
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
  const poison = (reason: string, more: Partial<Progress> = {}): void => {
    begin();
    step('FAILED', reason, more);
    step('POISONED', reason);
    removeStaging(applyDir, update);
  };

  // Advance has a download that is gone, or wrong, made good; then this one goes on.
  const awaitRedownload = (mismatch: string): void => {
    removeStaging(applyDir, update);
    const reason = `the staged copy is lost, and of the download: ${mismatch}`;
    const badContent = outcome.badContent + Number(mismatch !== absentContent);
    if (badContent > maxBadContent) poison(reason, { badContent });
    else if (mismatch !== absentContent)
      step(outcome.state, reason, { badContent, nextTryAt: deps.now() + checkSeconds });
    deps.log({ decision: 'wait', reason, ...idOf(update) });
  };

  // An interruption came between the two steps of giving up.
  const isSpent = outcome.state === 'FAILED' && outcome.tries >= maxTries;
  if (isSpent || (outcome.state === 'FAILED' && isExpired(update, deps.now()))) {
    step('POISONED', isSpent ? outcome.reason : 'it expired before it could be applied');
    removeStaging(applyDir, update);
    return;
  }
  if (outcome.state === 'STAGED' && isExpired(update, deps.now())) {
    step('EXPIRED', 'it expired before it could be applied');
    removeStaging(applyDir, update);
    return;
  }
  if (update.kind === 'withdraw') return;
  if (outcome.state === 'FAILED') step('STAGED', 'trying again');

  const { directory, copy } = stagingOf(applyDir, update);
  const log = join(runsDir(applyDir), `${key}-${outcome.tries + 1}.log`);
  const running = runFile(applyDir);
  let { kind } = update;
  let result: ApplyResult;
  try {
    // Ours, and flushed: only a damaged disk, a person's hand or a retry makes this necessary.
    const mismatch = (await isIntact(copy, update))
      ? undefined
      : await copyToStaging(config, update);
    if (mismatch !== undefined) {
      awaitRedownload(mismatch);
      return;
    }
    kind ??= (await detectKind(copy)).kind;
    if (kind === 'keyset') result = activateKeySet(config, update, copy);
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
          moduleStoreDir: modulesDir(applyDir),
        },
        onStart: (run) => {
          // The generation before would say that nothing is left running.
          replaceRecord(running, run, 0o600, 'a copy');
          begin();
        },
      });
    }
  } catch (error) {
    const reason = describeError(error);
    if (error instanceof UpdateError && error.code === 'malformed') {
      poison(reason);
      return;
    }
    // Puppet is missing, or ended by a shutdown, or the disk is full: no try of this update. It is taken
    // up where it is, but what the kernel ends each time for want of memory not at every wake-up.
    if (outcome.state === 'APPLYING' && error instanceof UpdateError) {
      const interruptions = (outcome.interruptions ?? 0) + 1;
      const nextTryAt = deps.now() + pauseAfter(interruptions);
      step('APPLYING', reason, { interruptions, nextTryAt });
    }
    deps.log({ decision: 'wait', reason, ...idOf(update) });
    return;
  }
  replaceRecord(running, null, 0o600, 'a copy');
  begin();
  const { ok, reason, ...counts } = result;
  const run = { log, ...counts };
  if (ok) {
    // First: once the module is APPLIED nobody comes here for it again.
    if (kind === 'module') await retryForModule(held, deps);
    step('APPLIED', reason, { run });
    removeStaging(applyDir, update);
    return;
  }
  const tries = outcome.tries + 1;
  const nextTryAt = deps.now() + (backOffSeconds[tries - 1] ?? 0);
  if (tries >= maxTries) poison(reason, { run, tries });
  else step('FAILED', reason, { run, tries, nextTryAt, interruptions: 0 });
}

/** Seconds. */
function pauseAfter(interruptions: number): number {
  const paid = interruptions - freeInterruptions;
  return paid < 0 ? 0 : Math.min(60 * 2 ** paid, maxPauseSeconds);
}

/** A manifest may have failed for want of this module: it is due at once, with all its tries. */
async function retryForModule(held: HeldUpdates, { now }: ApplyDeps): Promise<void> {
  const directory = outcomesDir(held.config.applyDir);
  for (const update of (await loadVerified(held)).current) {
    const outcome = readIfIntact(directory, update);
    if (outcome?.state !== 'FAILED' || update.kind === 'module' || update.kind === 'file') continue;
    const change = { state: 'FAILED' as const, reason: outcome.reason, nextTryAt: 0, tries: 0 };
    writeProgress(directory, update, outcome, change, now(), outcomeMode);
  }
}
