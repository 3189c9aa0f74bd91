import { idOf, isExpired, nameOf, type UpdateId, updateKey } from '../../announcement/update.ts';
import type { Config } from '../../config.ts';
import { UpdateError } from '../../errors.ts';
import { loadVerified, type VerifiedUpdates } from '../../state/candidates.ts';
import { HeldUpdates } from '../../state/held.ts';
import { applyLock, outcomesDir, prepareApplyDir } from '../../state/layout.ts';
import { listRecords, readIfIntact, readProgress, writeProgress } from '../../state/progress.ts';
import { isoTime } from '../../system/iso-time.ts';
import { runExclusively } from '../../system/lock.ts';
import { type ApplyDeps, isRollback, outcomeMode } from './outcomes.ts';

/** Result for one update that had been given up. */
export interface Retried {
  id: UpdateId;
  isRetried: boolean;
  /** Reason that it is tried again, or stays given up, for a person. */
  reason: string;
}

/**
 * Has updates that were given up (POISONED) tried again, with all their tries: records that, for the next
 * pass of the apply side to do. An update that must not be applied any more stays given up.
 *
 * @param wanted the only one to try; undefined: all
 * @returns one result for each update in question; none when nothing was given up
 * @throws UpdateError `usage` when the wanted one is not known here, `refused` when it was not given up
 *   or must stay so, `try-later` while another apply is at it
 */
export async function retryPoisoned(
  config: Config,
  wanted: UpdateId | undefined,
  deps: ApplyDeps,
): Promise<Retried[]> {
  const { applyDir } = config;
  prepareApplyDir(applyDir);
  const retried: Retried[] = [];
  const isOurs = await runExclusively(
    applyLock(applyDir),
    () => '',
    async () => {
      const verified = await loadVerified(new HeldUpdates(config));
      for (const id of wanted === undefined
        ? poisonedIn(applyDir)
        : [requirePoisoned(config, wanted)])
        retried.push(retryOne(config, verified, id, deps));
    },
  );
  if (!isOurs)
    throw new UpdateError('try-later', 'an update is being applied at this moment', {
      hint: 'wait for it, then run this again',
    });
  const [first] = retried;
  if (wanted !== undefined && first?.isRetried === false)
    throw new UpdateError('refused', `${nameOf(wanted)} stays given up: ${first.reason}`, {
      hint: 'submit it again',
    });
  return retried;
}

function poisonedIn(applyDir: string): UpdateId[] {
  const directory = outcomesDir(applyDir);
  return listRecords(directory).filter((id) => readIfIntact(directory, id)?.state === 'POISONED');
}

function requirePoisoned({ applyDir }: Config, wanted: UpdateId): UpdateId {
  const outcome = readProgress(outcomesDir(applyDir), wanted);
  if (outcome?.state === 'POISONED') return wanted;
  const given = poisonedIn(applyDir).slice(0, 5).map(nameOf);
  const hint =
    given.length > 0 ? `given up here: ${given.join(', ')}` : 'nothing was given up here';
  if (outcome === undefined)
    throw new UpdateError('usage', `this node has not tried ${nameOf(wanted)}`, { hint });
  throw new UpdateError('refused', `${nameOf(wanted)} is ${outcome.state}, not POISONED`, { hint });
}

function retryOne(
  config: Config,
  { current, ended, unusable }: VerifiedUpdates,
  id: UpdateId,
  { nowSeconds, log }: ApplyDeps,
): Retried {
  const isIt = (other: UpdateId): boolean => updateKey(other) === updateKey(id);
  const directory = outcomesDir(config.applyDir);
  const outcome = readProgress(directory, id);
  const update = current.find(isIt);
  const stays = (reason: string): Retried => ({ id, isRetried: false, reason });
  if (update === undefined || outcome === undefined) {
    const why = [...ended, ...unusable].find((each) => isIt(each.id))?.reason;
    return stays(why ?? 'it does not count any more');
  }
  const now = nowSeconds();
  if (isRollback(config.applyDir, update, now)) return stays('a newer version was begun');
  if (isExpired(update, now)) return stays(`it expired at ${isoTime(update.expires ?? 0)}`);
  const reason = 'tried again by hand';
  const change = { state: 'STAGED' as const, reason, tries: 0, nextTryAt: 0, badContent: 0 };
  writeProgress(directory, id, outcome, change, now, outcomeMode);
  log({ decision: 'retry', reason, ...idOf(id) });
  return { id, isRetried: true, reason };
}
