import { join } from 'node:path';
import { parseUpdateKey, type Update, type UpdateId, updateKey } from '../announcement/update.ts';
import { UpdateError } from '../errors.ts';
import { listDirectory } from '../system/directory.ts';
import { isoTime } from '../system/iso-time.ts';
import { readRecord, replaceRecord } from '../system/record.ts';
import { assertLegalStep, restsAt, type State } from './states.ts';

/**
 * How far an update came, as one side recorded it. Advance writes ACCEPTED to COMPLETE below
 * `<stateDir>/updates`, the apply side STAGED onward below `<applyDir>/outcomes`.
 */
export interface Progress {
  state: State;
  /** ISO time at which each state was last entered. */
  at: Partial<Record<State, string>>;
  infoHash: string;
  /** The content applied or to be applied; null for a bare torrent. */
  sha256: string | null;
  /** Puppet only said what it would change. */
  noop: boolean;
  /** Failed tries so far. */
  tries: number;
  /** How often in this try Puppet was ended from outside; undefined: never. That is no failed try. */
  interruptions?: number;
  /** Unix seconds before which a failed or interrupted update is not tried again. */
  nextTryAt: number;
  /** How often the content was found to have the wrong hash. */
  badContent: number;
  /** Why it is in this state, for a person. */
  reason: string;
  /** The last Puppet run: its log, and the counts of its summary. */
  run: {
    log: string;
    exitCode: number | null;
    changed: number | null;
    failed: number | null;
    /** Of a noop run: the properties that would change. */
    wouldChange?: string[];
  } | null;
}

/** The updates of which `directory` has a record, be it the generation before only. */
export function listRecords(directory: string): UpdateId[] {
  const names = listDirectory(directory).map((name) => name.replace(/\.previous$/, ''));
  return [...new Set(names)].flatMap((name) => parseUpdateKey(name) ?? []);
}

/** Reads the record of an update in `directory`; undefined when there is none. */
export function readProgress(directory: string, id: UpdateId): Progress | undefined {
  // The digest shows that we wrote it, and the format number that we know its shape.
  return readRecord(join(directory, updateKey(id))) as Progress | undefined;
}

/** The same; undefined also when it is damaged beyond repair. */
export function readIfIntact(directory: string, id: UpdateId): Progress | undefined {
  try {
    return readProgress(directory, id);
  } catch (error) {
    if (error instanceof UpdateError) return undefined;
    throw error;
  }
}

/** The record of an update that has just been accepted. */
export function newProgress({
  infoHash,
  sha256,
  noop,
}: Pick<Update, 'infoHash' | 'sha256' | 'noop'>): Progress {
  const none = { tries: 0, nextTryAt: 0, badContent: 0, reason: '', run: null };
  return { state: 'ACCEPTED', at: {}, infoHash, sha256, noop, ...none };
}

/**
 * Takes one durable step: checks that it is legal, stamps the time, writes the record.
 *
 * @param from the record before; its other fields are kept
 * @throws UpdateError `internal` for an illegal step
 */
export function writeProgress(
  directory: string,
  id: UpdateId,
  from: Progress,
  step: Partial<Omit<Progress, 'at'>> & { state: State; reason: string },
  now: number,
  mode = 0o640,
): Progress {
  assertLegalStep(from.state, step.state, updateKey(id));
  const progress: Progress = {
    ...from,
    ...step,
    at: { ...from.at, [step.state]: isoTime(now) },
  };
  // Where an update rests it stays: a damaged record must not apply, or go on with, it again.
  const previous = restsAt(step.state) ? 'a copy' : 'the one before';
  replaceRecord(join(directory, updateKey(id)), progress, mode, previous);
  return progress;
}
