import { join } from 'node:path';
import { zeroSha256 } from '../announcement/fields.ts';
import { parseUpdateKey, type Update, type UpdateId, updateKey } from '../announcement/update.ts';
import { UpdateError } from '../errors.ts';
import { listDirectory } from '../system/directory.ts';
import { isoTime } from '../system/iso-time.ts';
import { readRecord, replaceRecord } from '../system/record.ts';
import { isAheadOfTime } from './decide.ts';
import { assertLegalStep, restsAt, type State } from './states.ts';

/**
 * Progress of an update, as one side recorded it. Advance writes ACCEPTED to COMPLETE below
 * `<stateDir>/updates`, the apply side STAGED onward below `<applyDir>/outcomes`.
 */
export interface Progress {
  state: State;
  /** ISO time at which each state was last entered. */
  at: Partial<Record<State, string>>;
  infoHash: string;
  /** SHA-256 of the content; null for a bare torrent, zeros for a withdrawal. */
  sha256: string | null;
  /** Dry run: Puppet only says what it would change. */
  noop: boolean;
  /** Failed tries so far. */
  tries: number;
  /** Times that Puppet was ended from outside in this try, which does not fail it; undefined: none. */
  interruptions?: number;
  /** Unix seconds before which a failed or interrupted update is not tried again. */
  nextTryAt: number;
  /** Times that the content was found to have the wrong hash. */
  badContent: number;
  /** Reason for this state, for a person. */
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

/** Lists the updates with a record in `directory`, if only the generation before. */
export function listRecords(directory: string): UpdateId[] {
  const names = listDirectory(directory).map((name) => name.replace(/\.previous$/, ''));
  return [...new Set(names)].flatMap((name) => parseUpdateKey(name) ?? []);
}

/** Reads the record of an update in `directory`; undefined when there is none. */
export function readProgress(directory: string, id: UpdateId): Progress | undefined {
  // The digest shows that we wrote it, and the format number that we know its shape.
  return readRecord(join(directory, updateKey(id))) as Progress | undefined;
}

/** Reads like {@link readProgress}; undefined also for a record damaged beyond repair. */
export function readIfIntact(directory: string, id: UpdateId): Progress | undefined {
  try {
    return readProgress(directory, id);
  } catch (error) {
    if (error instanceof UpdateError) return undefined;
    throw error;
  }
}

/** Whether a record is one of a time when this node's clock was far ahead; false for a damaged one. */
export function isRecordAheadOfTime(
  { version }: UpdateId,
  record: Progress | undefined,
  nowSeconds: number,
): boolean {
  if (record === undefined) return false;
  const times = Object.values(record.at).map((at) => Date.parse(at) / 1000);
  return isAheadOfTime({ version, at: Math.max(...times) }, nowSeconds);
}

/** Whether content was applied: neither a dry run nor a withdrawal, which has none. */
export function isAppliedContent({ state, noop, sha256 }: Progress): boolean {
  return state === 'APPLIED' && !noop && sha256 !== zeroSha256;
}

/** Record of an update that has just been accepted. */
export function newProgress({
  infoHash,
  sha256,
  noop,
}: Pick<Update, 'infoHash' | 'sha256' | 'noop'>): Progress {
  const none = { tries: 0, nextTryAt: 0, badContent: 0, reason: '', run: null };
  return { state: 'ACCEPTED', at: {}, infoHash, sha256, noop, ...none };
}

/** Changes the reason of a state, and nothing else; no write when it is the same. */
export function noteReason(directory: string, id: UpdateId, from: Progress, reason: string): void {
  if (from.reason !== reason)
    replaceRecord(join(directory, updateKey(id)), { ...from, reason }, 0o640, 'the one before');
}

/**
 * Takes one durable step: checks that it is legal, stamps the time, writes the record.
 *
 * @param from the record before; its other fields are kept
 * @param nowSeconds unix seconds
 * @throws UpdateError `internal` for an illegal step
 */
export function writeProgress(
  directory: string,
  id: UpdateId,
  from: Progress,
  step: Partial<Omit<Progress, 'at'>> & { state: State; reason: string },
  nowSeconds: number,
  mode = 0o640,
): Progress {
  assertLegalStep(from.state, step.state, updateKey(id));
  const progress: Progress = {
    ...from,
    ...step,
    at: { ...from.at, [step.state]: isoTime(nowSeconds) },
  };
  // A resting state is kept twice: a damaged record must not have the update go on, or be applied, again.
  const previous = restsAt(step.state) ? 'a copy' : 'the one before';
  replaceRecord(join(directory, updateKey(id)), progress, mode, previous);
  return progress;
}
