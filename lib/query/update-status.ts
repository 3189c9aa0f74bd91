import { keySetChannel } from '../announcement/fields.ts';
import type { UpdateId } from '../announcement/update.ts';
import type { Config } from '../config.ts';
import { HeldUpdates } from '../state/held.ts';
import { roleOf } from '../state/high-water-mark.ts';
import type { Progress } from '../state/progress.ts';
import type { State } from '../state/states.ts';
import { parseJson } from '../system/json.ts';
import { asciiOnly } from '../system/printable.ts';
import { type AskDownloads, type Download, formatDownload, parseDownload } from './downloads.ts';
import { describeWithdrawn, progressOf } from './own-records.ts';

/**
 * State of an update on a node. OTHER: held for other nodes. UNKNOWN: never heard of, or not kept.
 * DAMAGED: its record cannot be read.
 */
export type NodeState = State | 'OTHER' | 'UNKNOWN' | 'DAMAGED';

const nodeStates: Record<NodeState, true> = {
  ACCEPTED: true,
  QUEUED: true,
  STALLED: true,
  COMPLETE: true,
  STAGED: true,
  APPLYING: true,
  APPLIED: true,
  FAILED: true,
  POISONED: true,
  REJECTED: true,
  SUPERSEDED: true,
  EXPIRED: true,
  WITHDRAWN: true,
  OTHER: true,
  UNKNOWN: true,
  DAMAGED: true,
};

/** Status of one update on a node, in the response to the query `update-status`. */
export interface UpdateStatus {
  state: NodeState;
  reason: string;
  /** Of a noop: some of the properties that would change, and how many more there are. */
  wouldChange?: string[];
  more?: number;
  /** Of one that is QUEUED or STALLED, where Transmission has answered. */
  download?: Download;
}

/** Serf's limit of a response is 1,024 bytes (QueryResponseSizeLimit in serf/config.go), some of them its frame. */
export const maxResponseBytes = 900;
const maxReasonChars = 200;

/** Status of an update on this node. */
export async function statusOf(
  config: Config,
  id: UpdateId,
  askDownloads: AskDownloads,
): Promise<UpdateStatus> {
  const progress = progressOf(config, id);
  if (typeof progress === 'string') return { state: 'DAMAGED', reason: shorten(progress) };
  const held = new HeldUpdates(config);
  if (progress !== undefined) {
    const { state, infoHash } = progress;
    const isWithdrawal = held.announcement(id)?.update.kind === 'withdraw';
    // The state stays APPLIED: for a node of version 0.2.0 that asks, any other one would be a failure.
    if (isWithdrawal && state === 'APPLIED')
      return { state, reason: shorten(describeWithdrawn(config, id)) };
    const isAwaited = state === 'QUEUED' || state === 'STALLED';
    const download = (await askDownloads(isAwaited ? [infoHash] : [])).get(infoHash);
    return { ...describe(progress), ...(download === undefined ? {} : { download }) };
  }
  if (!held.has(id))
    return config.channels?.includes(id.channel) === false && id.channel !== keySetChannel
      ? { state: 'OTHER', reason: 'this node does not follow the channel' }
      : { state: 'UNKNOWN', reason: 'not heard of, or refused' };
  if (roleOf(held, id).role === 'not-targeted') return { state: 'OTHER', reason: 'not a target' };
  return { state: 'ACCEPTED', reason: 'accepted' };
}

function describe({ state, reason, run }: Progress): UpdateStatus {
  const status: UpdateStatus = { state, reason: shorten(reason) };
  return run?.wouldChange === undefined ? status : { ...status, wouldChange: run.wouldChange };
}

/** Cuts a text and makes it ASCII, so that characters are bytes. */
function shorten(reason: string): string {
  return asciiOnly(reason.slice(0, maxReasonChars));
}

/** Formats a status as one line of JSON that fits a response; properties that do not fit are counted in `more`. */
export function formatStatus(status: UpdateStatus): string {
  const { wouldChange: all, download, ...plain } = status;
  const rest = download === undefined ? plain : { ...plain, download: formatDownload(download) };
  if (all === undefined) return JSON.stringify(rest);
  for (let kept = all.length; ; kept -= 1) {
    const text = JSON.stringify({
      ...rest,
      wouldChange: all.slice(0, kept),
      more: all.length - kept,
    });
    if (kept === 0 || Buffer.byteLength(text) <= maxResponseBytes) return text;
  }
}

/** Parses a member's response; undefined for anything else, since any member can answer anything. */
export function parseStatus(response: string): UpdateStatus | undefined {
  const value = parseJson(response);
  if (typeof value !== 'object' || value === null) return undefined;
  const { state, reason, wouldChange, more, ...rest } = value as Record<string, unknown>;
  if (!isNodeState(state) || typeof reason !== 'string') return undefined;
  const download = parseDownload(rest['download']);
  const known = download === null ? {} : { download };
  const status: UpdateStatus = { state, reason: asciiOnly(reason), ...known };
  if (!Array.isArray(wouldChange) || typeof more !== 'number') return status;
  return { ...status, wouldChange: wouldChange.map((each) => asciiOnly(String(each))), more };
}

export function isNodeState(value: unknown): value is NodeState {
  return typeof value === 'string' && Object.hasOwn(nodeStates, value);
}
