import type { Config } from './config.ts';
import { roleOf } from './marks.ts';
import { outcomesDir, readProgress, updatesDir, type Progress } from './progress.ts';
import { listAccepted } from './store.ts';
import type { State } from './states.ts';
import { updateKey, type UpdateId } from './update.ts';

/** What a node says of one update, in the response to the query `update-status`. */
export interface UpdateStatus {
  /** OTHER: held for other nodes. UNKNOWN: never heard of, or not kept. */
  state: State | 'OTHER' | 'UNKNOWN';
  reason: string;
  /** Of a noop: some of the properties that would change, and how many more there are. */
  wouldChange?: string[];
  more?: number;
}

/** Serf cuts a response off at 1,024 bytes, of which its own frame takes some. */
const maxResponseBytes = 900;
const maxReasonChars = 200;

/** How far an update is on this node. */
export function statusOf(config: Config, id: UpdateId): UpdateStatus {
  const progress =
    readProgress(outcomesDir(config.applyDir), id) ?? readProgress(updatesDir(config.stateDir), id);
  if (progress !== undefined) return describe(progress);
  const isHeld = listAccepted(config.stateDir).some((held) => updateKey(held) === updateKey(id));
  if (!isHeld) return { state: 'UNKNOWN', reason: 'not heard of' };
  if (roleOf(config, id).role === 'other') return { state: 'OTHER', reason: 'not a target' };
  return { state: 'ACCEPTED', reason: 'accepted' };
}

function describe({ state, reason, run }: Progress): UpdateStatus {
  const status: UpdateStatus = { state, reason: reason.slice(0, maxReasonChars) };
  return run?.wouldChange === undefined ? status : { ...status, wouldChange: run.wouldChange };
}

/** One line of JSON that fits a response: what does not fit of the list is counted. */
export function formatStatus(status: UpdateStatus): string {
  const all = status.wouldChange;
  if (all === undefined) return JSON.stringify(status);
  for (let kept = all.length; ; kept -= 1) {
    const text = JSON.stringify({
      ...status,
      wouldChange: all.slice(0, kept),
      more: all.length - kept,
    });
    if (kept === 0 || Buffer.byteLength(text) <= maxResponseBytes) return text;
  }
}

/** A member's response; undefined for what is none, since any member can answer anything. */
export function parseStatus(response: string): UpdateStatus | undefined {
  let value: unknown;
  try {
    value = JSON.parse(response);
  } catch {
    return undefined;
  }
  if (typeof value !== 'object' || value === null) return undefined;
  const { state, reason, wouldChange, more } = value as Record<string, unknown>;
  if (typeof state !== 'string' || typeof reason !== 'string') return undefined;
  const status = { state: asciiOnly(state), reason: asciiOnly(reason) } as UpdateStatus;
  if (!Array.isArray(wouldChange) || typeof more !== 'number') return status;
  return { ...status, wouldChange: wouldChange.map((each) => asciiOnly(String(each))), more };
}

/** A terminal shows it: no control characters from another machine. */
function asciiOnly(text: string): string {
  return text.replace(/[^\x20-\x7e]/g, '?');
}
