import { lstatSync, rmSync } from 'node:fs';
import { UpdateError } from '../../errors.ts';
import { catchUpFile, joinedFile } from '../../state/layout.ts';
import { replaceDurably } from '../../system/durable-write.ts';
import { decodeRecord, encodeRecord } from '../../system/record.ts';
import { readRegularFile } from '../../system/regular-file.ts';

/** What a node remembers of its last catch-up; times are unix milliseconds. */
export interface CatchUpRecord {
  startedAt: number;
  /** The epoch of the key set in force then; what was refused may pass under another one. */
  epoch: number;
  /** How many members were alive then, this node among them; 0: not known, 1: nobody could be asked. */
  members: number;
  /** What kept it from being the whole: a key set that has yet to come into force, or time. */
  left: 'nothing' | 'keys' | 'time';
  refused: Refused[];
}

/** What need not be fetched again for a while: these signed bytes would be refused again. */
export interface Refused {
  /** From `offerKey`. */
  offerKey: string;
  at: number;
}

/** Joins come in bursts: a node asks no more often for them. */
const debounceMs = 10_000;
const maxJitterMs = 5_000;
/** Members times this is the shortest interval: a whole fleet sends two queries a second. */
const msPerMember = 500;
/** A timer fires early by its accuracy. */
const earliness = 0.9;
/** In a fleet of up to so many everybody asks when anybody joins. */
const smallFleet = 20;
/** Clocks and configurations change, and with them the verdict. */
const refusedForMs = 3_600_000;
const maxRefused = 256;
const maxRecordBytes = 65_536;

/**
 * Decides whether a catch-up is due, and after what delay it should begin.
 *
 * @param last undefined when there was none
 * @param joinedAt when a member joined last, unix milliseconds; null: never
 * @param epoch of the key set in force now
 * @param now unix milliseconds
 * @param random from 0 to 1, so that the nodes of a fleet do not all ask at once
 * @returns the delay in milliseconds, at most 10 s; null: not due
 */
export function decideCatchUp(input: {
  last: CatchUpRecord | undefined;
  joinedAt: number | null;
  epoch: number;
  now: number;
  intervalSeconds: number;
  random: number;
}): number | null {
  const { last, joinedAt, epoch, now, random } = input;
  if (last === undefined) return 0;
  const ageMs = now - last.startedAt;
  // The clock was set back since: it says nothing about the last one.
  if (ageMs < -debounceMs) return 0;
  if (last.left === 'keys' && epoch > last.epoch) return 0;
  const jitterMs = Math.round(Math.min(maxJitterMs, last.members * 50) * random);
  if (joinedAt !== null && joinedAt > last.startedAt && joinedAt <= now)
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
 * @param joined how many members have joined
 * @param members how many were alive at the last catch-up; 0: not known
 */
export function isJoinOurs(joined: number, members: number): boolean {
  return members <= smallFleet || joined > members / 2;
}

/** What is still to be remembered as refused under this epoch. */
export function stillRefused(
  last: CatchUpRecord | undefined,
  epoch: number,
  now: number,
): Refused[] {
  if (last?.epoch !== epoch) return [];
  return last.refused.filter(({ at }) => Math.abs(now - at) < refusedForMs).slice(-maxRefused);
}

/** When a member joined last, by the fact that handlers/member-join.ts touches; null: never. */
export function readJoinedAt(stateDir: string): number | null {
  return lstatSync(joinedFile(stateDir), { throwIfNoEntry: false })?.mtimeMs ?? null;
}

/** The record of the last catch-up; undefined when there is none that can be used. */
export function readCatchUp(stateDir: string): CatchUpRecord | undefined {
  const file = catchUpFile(stateDir);
  try {
    const bytes = readRegularFile(file, { maxBytes: maxRecordBytes });
    if (typeof bytes === 'string') return undefined;
    return parseRecord(decodeRecord(bytes.toString(), file)?.value);
  } catch (error) {
    // It decides when to ask, and nothing else: one query too many does no harm.
    if (error instanceof UpdateError) return undefined;
    throw error;
  }
}

/** Writes the record of a catch-up. */
export function writeCatchUp(stateDir: string, record: CatchUpRecord): void {
  const file = catchUpFile(stateDir);
  // What is no file cannot be replaced by a rename.
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
