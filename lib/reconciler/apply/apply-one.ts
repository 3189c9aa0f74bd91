import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { idOf, isExpired, type Update, updateKey } from '../../announcement/update.ts';
import { isIntact, type Mismatch } from '../../content/copy-verified.ts';
import { plainKind } from '../../content/detect-kind.ts';
import type { ApplyResult } from '../../daemons/puppet/puppet.ts';
import { describeError, UpdateError } from '../../errors.ts';
import { loadVerified } from '../../state/candidates.ts';
import { HeldUpdates } from '../../state/held.ts';
import { modulesDir, outcomesDir, runFile, runsDir } from '../../state/layout.ts';
import { type Progress, readIfIntact, readProgress, writeProgress } from '../../state/progress.ts';
import { replaceRecord } from '../../system/record.ts';
import { activateKeySet, applyContent } from './install.ts';
import { type ApplyDeps, isClockBehind, outcomeMode } from './outcomes.ts';
import {
  copyToStaging,
  countBadContent,
  maxBadContent,
  removeStaging,
  stagingOf,
} from './staging.ts';

const maxTries = 3;
/** Seconds before the second and the third try. */
const backOffSeconds = [60, 600];
/** From this interruption on Puppet is started again with a delay that doubles, before it at once. */
const freeInterruptions = 5;
/** Longest pause before another try. */
export const maxPauseSeconds = 3600;
/** Time for advance to have Transmission check a download that was staged, lost, and is wrong now. */
const checkSeconds = 60;

/**
 * Applies one update: STAGED -> APPLYING -> APPLIED, or FAILED and after the last try POISONED. To be
 * called under the apply lock; it can be killed at any instant and called again.
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
      deps.nowSeconds(),
      outcomeMode,
    );
    if (state !== 'STAGED' && state !== 'APPLYING')
      deps.log({ decision: state.toLowerCase(), reason, ...idOf(update) });
  };
  // Called once Puppet runs: without Puppet, or with a damaged copy, nothing has begun.
  const begin = (): void => {
    if (outcome.state === 'STAGED') step('APPLYING', 'started');
  };
  const poison = (reason: string, more: Partial<Progress> = {}): void => {
    begin();
    step('FAILED', reason, more);
    step('POISONED', reason);
    removeStaging(applyDir, update);
  };

  // Advance has a lost or wrong download fetched again; then this update goes on.
  const awaitRedownload = (mismatch: Mismatch): void => {
    removeStaging(applyDir, update);
    const reason = `the staged copy is lost, and of the download: ${mismatch.reason}`;
    const badContent = mismatch.isIncomplete
      ? outcome.badContent
      : countBadContent(config, outcome.badContent);
    if (badContent > maxBadContent) poison(reason, { badContent });
    else if (!mismatch.isIncomplete)
      step(outcome.state, reason, { badContent, nextTryAt: deps.nowSeconds() + checkSeconds });
    deps.log({ decision: 'wait', reason, ...idOf(update) });
  };

  // Killed between the two steps to POISONED.
  if (outcome.state === 'FAILED' && outcome.tries >= maxTries) {
    step('POISONED', outcome.reason);
    removeStaging(applyDir, update);
    return;
  }
  // Not POISONED: an update that expired by a wrong clock counts again.
  if (outcome.state === 'FAILED' && isExpired(update, deps.nowSeconds()))
    step('STAGED', 'not tried again');
  if (outcome.state === 'STAGED' && isExpired(update, deps.nowSeconds())) {
    step('EXPIRED', 'it expired before it could be applied');
    removeStaging(applyDir, update);
    return;
  }
  if (update.kind === 'withdraw' || isClockBehind(update, deps)) return;
  if (outcome.state === 'FAILED') step('STAGED', 'trying again');

  const { directory, copy } = stagingOf(applyDir, update);
  const log = join(runsDir(applyDir), `${key}-${outcome.tries + 1}.log`);
  const running = runFile(applyDir);
  let { kind } = update;
  let result: ApplyResult;
  try {
    // The copy was flushed: only a damaged disk, a person's hand or a retry makes another one necessary.
    const mismatch = (await isIntact(copy, update))
      ? undefined
      : await copyToStaging(config, update);
    if (mismatch !== undefined) {
      awaitRedownload(mismatch);
      return;
    }
    kind ??= (await plainKind(copy)).kind;
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
          // Kept twice: the generation before would say that no Puppet is left running.
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
    // Puppet is missing, or ended by a shutdown, or the disk is full: no failed try of this update. It is
    // resumed, but not at every wake-up: the kernel may end it each time for want of memory.
    if (outcome.state === 'APPLYING' && error instanceof UpdateError) {
      const interruptions = (outcome.interruptions ?? 0) + 1;
      const nextTryAt = deps.nowSeconds() + pauseAfter(interruptions);
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
    // First: an APPLIED module does not come here again.
    if (kind === 'module') await retryForModule(held, deps);
    step('APPLIED', reason, { run });
    removeStaging(applyDir, update);
    return;
  }
  const tries = outcome.tries + 1;
  const nextTryAt = deps.nowSeconds() + (backOffSeconds[tries - 1] ?? 0);
  if (tries >= maxTries) poison(reason, { run, tries });
  else step('FAILED', reason, { run, tries, nextTryAt, interruptions: 0 });
}

/** Back-off after an interruption, in seconds, at most an hour. */
function pauseAfter(interruptions: number): number {
  const paid = interruptions - freeInterruptions;
  return paid < 0 ? 0 : Math.min(60 * 2 ** paid, maxPauseSeconds);
}

/** Makes failed manifests due at once, with all their tries: they may have failed for want of this module. */
async function retryForModule(held: HeldUpdates, { nowSeconds }: ApplyDeps): Promise<void> {
  const directory = outcomesDir(held.config.applyDir);
  for (const update of (await loadVerified(held)).current) {
    const outcome = readIfIntact(directory, update);
    if (outcome?.state !== 'FAILED' || update.kind === 'module' || update.kind === 'file') continue;
    const change = { state: 'FAILED' as const, reason: outcome.reason, nextTryAt: 0, tries: 0 };
    writeProgress(directory, update, outcome, change, nowSeconds(), outcomeMode);
  }
}
