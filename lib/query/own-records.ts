import type { UpdateId } from '../announcement/update.ts';
import type { Config } from '../config.ts';
import { describeError } from '../errors.ts';
import { outcomesDir, updatesDir } from '../state/layout.ts';
import { isAppliedContent, listRecords, type Progress, readProgress } from '../state/progress.ts';

type Places = Pick<Config, 'stateDir' | 'applyDir'>;

/**
 * Reads the record of an update: the apply side's, or as long as that has not begun, advance's. A fault
 * in it must not keep the node from answering.
 *
 * @returns the fault, as text, of a record that cannot be read; undefined when there is none
 */
export function progressOf(
  { stateDir, applyDir }: Places,
  id: UpdateId,
): Progress | string | undefined {
  try {
    return readProgress(outcomesDir(applyDir), id) ?? readProgress(updatesDir(stateDir), id);
  } catch (error) {
    return describeError(error).replaceAll(`${stateDir}/`, '').replaceAll(`${applyDir}/`, '');
  }
}

/** Version applied last; 0: none. Records that cannot be read are skipped, since a current one shows as DAMAGED. */
export function lastAppliedOf(config: Places, channel: string): number {
  return begunIn(config, channel).find((id) => isApplied(progressOf(config, id)))?.version ?? 0;
}

/** Tells what of a channel runs on this node after a withdrawal, which may have come too late. */
export function describeWithdrawn(config: Places, withdrawal: UpdateId): string {
  const { channel, version } = withdrawal;
  const runs = lastAppliedOf(config, channel);
  const begun = begunIn(config, channel).filter((id) => id.version < version);
  const known = [...begun, ...recordsOf(updatesDir(config.stateDir), channel)]
    .map((id) => id.version)
    .filter((each) => each < version);
  const tried = begun.find((id) => id.version > runs && hasFailed(progressOf(config, id)));
  const isLate = runs !== 0 && runs === Math.max(...known);
  const state = `${describeRunning(runs)}${isLate ? ', applied before' : ''}`;
  return tried === undefined ? state : `${state}; ${tried.version} was tried, and failed`;
}

/** @param version that was applied last; 0: none */
export function describeRunning(version: number): string {
  return version === 0 ? 'nothing was applied' : `runs ${version}`;
}

function isApplied(outcome: Progress | string | undefined): boolean {
  return typeof outcome === 'object' && isAppliedContent(outcome);
}

function hasFailed(outcome: Progress | string | undefined): boolean {
  return typeof outcome === 'object' && !outcome.noop && outcome.tries > 0;
}

/** The updates that the apply side has begun, the newest first; none where they cannot be listed. */
function begunIn({ applyDir }: Places, channel: string): UpdateId[] {
  return recordsOf(outcomesDir(applyDir), channel).sort((a, b) => b.version - a.version);
}

function recordsOf(directory: string, channel: string): UpdateId[] {
  try {
    return listRecords(directory).filter((id) => id.channel === channel);
  } catch {
    return [];
  }
}
