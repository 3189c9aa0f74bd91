import { lstatSync, rmSync } from 'node:fs';
import { UpdateError } from '../../errors.ts';
import { catchUpFile, joinedFile } from '../../state/layout.ts';
import { replaceDurably } from '../../system/durable-write.ts';
import { decodeRecord, encodeRecord } from '../../system/record.ts';
import { readRegularFile } from '../../system/regular-file.ts';

/** Record of the last catch-up; times are unix milliseconds. */
export interface CatchUpRecord {
  startedAt: number;
  /** Epoch of the key set in force then; an announcement refused under it may pass under another one. */
  epoch: number;
  /** Members that were alive then, this node among them; 0: not known, 1: no other one could be asked. */
  members: number;
  /** Reason that it was not complete: a key set that has yet to come into force, or lack of time. */
  left: 'nothing' | 'keys' | 'time';
  refused: Refused[];
}

/** An announcement not to be fetched again for a while: its signed bytes would be refused again. */
export interface Refused {
  /** From `offerKey`. */
  offerKey: string;
  at: number;
}

/** Shortest interval between two catch-ups because of joins, which come in bursts. */
const debounceMs = 10_000;
const maxJitterMs = 5_000;
/** Shortest interval between two catch-ups, for each member: a whole fleet sends two queries a second. */
const msPerMember = 500;
/** Share of the interval after which a catch-up is due: a timer fires early by its accuracy. */
const earliness = 0.9;
/** Largest fleet in which every node asks when any node joins. */
const smallFleet = 20;
/** Time for which a refusal counts: clocks and configurations change, and with them the verdict. */
const refusedForMs = 3_600_000;
const maxRefused = 256;
const maxRecordBytes = 65_536;

/**
 * Decides whether a catch-up is due, and after what delay it should begin.
 *
 * @param last undefined when there was none
 * @param joinedAt last join of a member, unix milliseconds; null: never
 * @param epoch of the key set in force now
 * @param now unix milliseconds
 * @param random from 0 to 1, so that the nodes of a fleet do not all ask at once
 * @returns the delay in milliseconds, at most 10 s; null: not due
 */
export function decideCatchUp(input: {
  last: CatchUpRecord | undefined;
  joinedAt: number | null;
  epoch: number;
  nowMs: number;
  intervalSeconds: number;
  random: number;
}): number | null {
  const { last, joinedAt, epoch, nowMs, random } = input;
  if (last === undefined) return 0;
  const ageMs = nowMs - last.startedAt;
  // The clock was set back since, and cannot tell the age of the last one.
  if (ageMs < -debounceMs) return 0;
  if (last.left === 'keys' && epoch > last.epoch) return 0;
  const jitterMs = Math.round(Math.min(maxJitterMs, last.members * 50) * random);
  if (joinedAt !== null && joinedAt > last.startedAt && joinedAt <= nowMs)
    return last.members === 1 ? jitterMs : Math.max(jitterMs, debounceMs - ageMs);
  if (last.left === 'time') return ageMs >= debounceMs ? jitterMs : null;
  const intervalMs = Math.max(input.intervalSeconds * 1000, last.members * msPerMember);
  return ageMs >= intervalMs * earliness ? jitterMs : null;
}

/**
 * Decides whether joins are a reason to ask. When one node joins a large fleet, it asks, and the others
 * do not: a thousand queries at once would hold up the events. A node to which more than half of the
 * fleet is new was away itself, or on the smaller side of a partition.
 *
 * @param joined number of members that have joined
 * @param members number of members alive at the last catch-up; 0: not known
 */
export function isJoinOurs(joined: number, members: number): boolean {
  return members <= smallFleet || joined > members / 2;
}

/** Refusals that still count under this epoch, the newest 256 at most. */
export function stillRefused(
  last: CatchUpRecord | undefined,
  epoch: number,
  nowMs: number,
): Refused[] {
  if (last?.epoch !== epoch) return [];
  return last.refused.filter(({ at }) => Math.abs(nowMs - at) < refusedForMs).slice(-maxRefused);
}

/** Last join of a member, unix milliseconds, by the fact that handlers/member-join.ts touches; null: never. */
export function readJoinedAt(stateDir: string): number | null {
  return lstatSync(joinedFile(stateDir), { throwIfNoEntry: false })?.mtimeMs ?? null;
}

/** Reads the record of the last catch-up; undefined when there is no usable one. */
export function readCatchUp(stateDir: string): CatchUpRecord | undefined {
  const file = catchUpFile(stateDir);
  try {
    const bytes = readRegularFile(file, { maxBytes: maxRecordBytes });
    if (typeof bytes === 'string') return undefined;
    return parseRecord(decodeRecord(bytes.toString(), file)?.value);
  } catch (error) {
    // The record decides when to ask, and nothing else: one query too many does no harm.
    if (error instanceof UpdateError) return undefined;
    throw error;
  }
}

/** Writes the record of a catch-up. */
export function writeCatchUp(stateDir: string, record: CatchUpRecord): void {
  const file = catchUpFile(stateDir);
  // rename(2) cannot replace a directory by a file.
  if (lstatSync(file, { throwIfNoEntry: false })?.isDirectory() === true)
    rmSync(file, { recursive: true });
  const refused = record.refused.map(({ offerKey: what, at }) => ({ what, at }));
  replaceDurably(file, encodeRecord({ ...record, refused }));
}

function parseRecord(value: unknown): CatchUpRecord | undefined {
  const record = (value ?? {}) as Partial<Omit<CatchUpRecord, 'refused'>> & { refused?: unknown };
  const { startedAt, epoch, members, left, refused } = record;
  if (!isNumber(startedAt) || !isNumber(epoch) || !isNumber(members)) return undefined;
  if (!Array.isArray(refused) || left === undefined) return undefined;
  const entries = refused as { what: string; at: number }[];
  return {
    ...{ startedAt, epoch, members, left },
    refused: entries.map(({ what: offerKey, at }) => ({ offerKey, at })),
  };
}

function isNumber(value: unknown): value is number {
  return typeof value === 'number' && Number.isFinite(value);
}
