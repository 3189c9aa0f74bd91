import {
  describeRef,
  idOf,
  isExpired,
  isNamedBy,
  nameOf,
  type UpdateId,
  updateKey,
  type UpdateRef,
} from '../../announcement/update.ts';
import type { Config } from '../../config.ts';
import { UpdateError } from '../../errors.ts';
import { progressOf } from '../../query/own-records.ts';
import { loadVerified, type VerifiedUpdates } from '../../state/candidates.ts';
import { HeldUpdates } from '../../state/held.ts';
import { applyLock, outcomesDir, prepareApplyDir } from '../../state/layout.ts';
import {
  listRecords,
  type Progress,
  readIfIntact,
  readProgress,
  writeProgress,
} from '../../state/progress.ts';
import { isoTime } from '../../system/iso-time.ts';
import { runExclusively } from '../../system/lock.ts';
import { type ApplyDeps, isRollback, outcomeMode } from './outcomes.ts';

/** Result for one update that had failed. */
export interface Retried {
  id: UpdateId;
  isRetried: boolean;
  /** Reason that it is tried again, or stays as it is, for a person. */
  reason: string;
}

/**
 * Has updates that failed tried again at once, with all their tries: those that wait for their next try (FAILED), and
 * those that were given up (POISONED). Records that, for the next pass of the apply side to do. An update that must
 * not be applied any more stays as it is.
 *
 * @param wanted the channel or the only update to try; undefined: all
 * @returns one result for each update in question; none when nothing has failed
 * @throws UpdateError `usage` when the wanted one is not known here, `refused` when it has not failed or must stay
 *   so, `try-later` while another apply is at it
 */
export async function retryFailed(
  config: Config,
  wanted: UpdateRef | undefined,
  deps: ApplyDeps,
): Promise<Retried[]> {
  const { applyDir } = config;
  prepareApplyDir(applyDir);
  const retried: Retried[] = [];
  const isOurs = await runExclusively(
    applyLock(applyDir),
    () => '',
    async () => {
      const held = new HeldUpdates(config);
      const verified = await loadVerified(held);
      const ids =
        wanted === undefined
          ? failedIn(applyDir)
          : requireFailed(config, { held, verified, wanted });
      for (const id of ids) retried.push(retryOne(config, verified, id, deps));
    },
  );
  if (!isOurs)
    throw new UpdateError('try-later', 'an update is being applied at this moment', {
      hint: 'wait for it, then run this again',
    });
  const [first] = retried;
  if (wanted !== undefined && first !== undefined && !retried.some(({ isRetried }) => isRetried))
    throw new UpdateError('refused', `${nameOf(first.id)} is not tried again: ${first.reason}`, {
      hint: 'submit it again',
    });
  return retried;
}

function failedIn(applyDir: string): UpdateId[] {
  const directory = outcomesDir(applyDir);
  return listRecords(directory).filter((id) => hasFailed(readIfIntact(directory, id)));
}

function hasFailed(outcome: Progress | undefined): boolean {
  return outcome?.state === 'POISONED' || outcome?.state === 'FAILED';
}

interface RetryRequest {
  held: HeldUpdates;
  verified: VerifiedUpdates;
  wanted: UpdateRef;
}

/** The failed updates that were named: of a channel those that count, or where none does the newest. */
function requireFailed(config: Config, { held, verified, wanted }: RetryRequest): UpdateId[] {
  const { current } = verified;
  const failed = failedIn(config.applyDir);
  const named = failed.filter((id) => isNamedBy(wanted, id));
  const counting = named.filter((id) =>
    current.some((update) => updateKey(update) === updateKey(id)),
  );
  if (counting.length > 0) return counting;
  const newest = [...held.ids, ...listRecords(outcomesDir(config.applyDir))]
    .filter((id) => isNamedBy(wanted, id))
    .sort((a, b) => b.version - a.version)[0];
  const others = failed.slice(0, 5).map(nameOf);
  const hint =
    others.length > 0 ? `what failed here: ${others.join(', ')}` : 'nothing has failed here';
  if (newest === undefined)
    throw new UpdateError('usage', `this node knows no update ${describeRef(wanted)}`, { hint });
  if (named.some((id) => id.version === newest.version)) return [newest];
  const progress = progressOf(config, newest);
  const { state, reason } =
    typeof progress === 'string'
      ? { state: 'DAMAGED', reason: progress }
      : (progress ?? { state: 'not begun here', reason: '' });
  throw new UpdateError(
    'refused',
    `there is nothing to try again: ${nameOf(newest)} is ${state}${reason === '' ? '' : ` (${reason})`}`,
    { hint },
  );
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
