import { keySetChannel } from '../announcement/fields.ts';
import type { Member } from '../daemons/serf/members.ts';
import { maxClockLeadSeconds } from '../state/decide.ts';
import { clockFault, fleetTime } from './fleet-clock.ts';
import type { ChannelFacts, NodeFacts, NodeSummary } from './node-summary.ts';
import type { NodeState } from './update-status.ts';

/** Verdict on a node or a fleet, the worst first. */
export type Verdict = 'failed' | 'stale' | 'pending' | 'converged';

const worstFirst: readonly Verdict[] = ['failed', 'stale', 'pending', 'converged'];

/** Exit status for each verdict. */
export const verdictStatuses: Record<Verdict, number> = {
  converged: 0,
  failed: 1,
  stale: 2,
  pending: 75,
};

/**
 * Presence of a member, by Serf's word. Left: it took its leave, or a member said so in its name. Neither
 * makes it less of a member: only `p2p-update retire` ends that, and Serf then knows it no more.
 */
export type Presence = 'alive' | 'down' | 'left';

export function presenceOf({ status }: Pick<Member, 'status'>): Presence {
  if (status === 'alive') return 'alive';
  return status === 'left' || status === 'leaving' ? 'left' : 'down';
}

export function describeAbsence(presence: Exclude<Presence, 'alive'>): string {
  return presence === 'left' ? 'has left, and was not retired' : 'down';
}

export interface ChannelRow extends ChannelFacts {
  verdict: Verdict;
  /** Reason of any verdict but converged; '' for that. */
  why: string;
}

export interface NodeRow {
  name: string;
  member: Presence;
  verdict: Verdict;
  why: string;
  /** null: it did not answer. */
  facts: NodeFacts | null;
  channels: ChannelRow[];
}

export interface FleetStatus {
  verdict: Verdict;
  /** Creation of the newest announcement that any node holds, unix seconds; null: there is none. */
  newestCreated: number | null;
  isStale: boolean;
  /** By name. */
  nodes: NodeRow[];
}

interface JudgeInput {
  members: readonly Pick<Member, 'name' | 'status'>[];
  /** null: a malformed response. */
  answers: ReadonlyMap<string, NodeSummary | null>;
  /** The only channel that counts and is shown; undefined: all. */
  channel?: string | undefined;
  /** null: nothing is ever stale. */
  staleAfterSeconds: number | null;
  /** Unix seconds. */
  nowSeconds: number;
}

/** States that a node does not leave by a retry of its own. */
const givenUp: readonly NodeState[] = ['POISONED', 'REJECTED', 'EXPIRED', 'DAMAGED'];
/** States in which nothing is left to do, on purpose. */
const ended: readonly NodeState[] = ['APPLIED', 'SUPERSEDED', 'WITHDRAWN'];

/**
 * Judges a fleet by the summaries of its nodes. A member can say anything, so the verdict is for people:
 * no node acts on it.
 */
export function judgeFleet(input: JudgeInput): FleetStatus {
  const { members, answers, channel, staleAfterSeconds, nowSeconds } = input;
  const isStale = (created: number | null): boolean =>
    created !== null && staleAfterSeconds !== null && nowSeconds - created > staleAfterSeconds;
  const isShown = (row: ChannelFacts): boolean => channel === undefined || row.channel === channel;
  const summaries = new Map<string, NodeSummary>();
  for (const [name, answer] of answers)
    if (answer !== null)
      summaries.set(name, { ...answer, channels: answer.channels.filter(isShown) });
  const clocks = [...summaries.values()].flatMap(({ clock }) => clock ?? []);
  const fleetSeconds = fleetTime(clocks, nowSeconds);
  const newest = newestOfFleet([...summaries.values()]);
  const nodes = members.map((member): NodeRow => {
    const { name } = member;
    const summary = summaries.get(name);
    if (summary === undefined) {
      const presence = presenceOf(member);
      const silence = answers.has(name) ? 'malformed response' : 'no answer';
      const why = presence === 'alive' ? silence : describeAbsence(presence);
      return { name, member: presence, verdict: 'pending', why, facts: null, channels: [] };
    }
    const faults = [summary.fault, clockFault(summary.clock, fleetSeconds)];
    const fault = faults.filter((each) => each !== '').join('; ');
    // Its response is newer than Serf's word on it.
    return judgeNode(name, { ...summary, fault }, newest, isStale(summary.newestCreated));
  });
  nodes.sort((a, b) => a.name.localeCompare(b.name, 'en', { numeric: true }));
  const created = [...summaries.values()]
    .flatMap(({ newestCreated }) => newestCreated ?? [])
    // One of the future, taken by a wrong clock, must not hide for a year that nothing newer comes.
    .filter((at) => at <= nowSeconds + maxClockLeadSeconds);
  const newestCreated = created.length === 0 ? null : Math.max(...created);
  const verdicts = nodes.map(({ verdict }) => verdict);
  if (isStale(newestCreated)) verdicts.push('stale');
  return {
    verdict: worst(verdicts),
    newestCreated,
    isStale: isStale(newestCreated),
    nodes,
  };
}

/** The highest version of each channel that any node holds, unless it has expired and cannot be got any more. */
function newestOfFleet(summaries: readonly NodeSummary[]): Map<string, number> {
  const newest = new Map<string, { version: number; isExpired: boolean }>();
  for (const { channel, newest: version, isNewestExpired } of summaries.flatMap(
    (summary) => summary.channels,
  )) {
    const known = newest.get(channel);
    if (known === undefined || version > known.version)
      newest.set(channel, { version, isExpired: isNewestExpired });
    else if (version === known.version) known.isExpired ||= isNewestExpired;
  }
  return new Map(
    [...newest]
      .filter(([, { version, isExpired }]) => version > 0 && !isExpired)
      .map(([channel, { version }]) => [channel, version]),
  );
}

function judgeNode(
  name: string,
  { channels: own, ...facts }: NodeSummary,
  newest: ReadonlyMap<string, number>,
  isStale: boolean,
): NodeRow {
  const { epoch, isLimited, fault } = facts;
  const known = new Set(own.map(({ channel }) => channel));
  // Every node follows the key sets, and may have had one placed at set-up.
  const isWanted = (channel: string, version: number): boolean =>
    channel === keySetChannel ? (epoch ?? 0) < version : !isLimited;
  const missing = [...newest]
    .filter(([channel, version]) => !known.has(channel) && isWanted(channel, version))
    .map(([channel]) => neverHeard(channel));
  const rows = [...own, ...missing].map((row): ChannelRow => {
    const wanted = newest.get(row.channel) ?? 0;
    const has = row.channel === keySetChannel ? Math.max(row.newest, epoch ?? 0) : row.newest;
    const why = channelFault(row);
    if (why !== undefined) return { ...row, verdict: 'failed', why };
    if (has < wanted) return { ...row, verdict: 'pending', why: `has not heard of ${wanted}` };
    const { current } = row;
    if (current === null || ended.includes(current.state))
      return { ...row, verdict: 'converged', why: '' };
    return { ...row, verdict: 'pending', why: current.reason };
  });
  rows.sort((a, b) => (a.channel < b.channel ? -1 : 1));
  const verdicts = rows.map(({ verdict }) => verdict);
  const node = { name, member: 'alive' as const, facts, channels: rows };
  if (fault !== '') return { ...node, verdict: 'failed', why: fault };
  // A node that follows few channels may rightly hold old announcements only.
  if (isStale && !isLimited) verdicts.push('stale');
  const verdict = worst(verdicts);
  const why =
    verdict === 'stale'
      ? 'nothing newer came for too long'
      : (rows.find((row) => row.verdict === verdict)?.why ?? '');
  return { ...node, verdict, why };
}

/** Fault of a channel that a person has to put right, if any. */
function channelFault({ equivocation, current }: ChannelFacts): string | undefined {
  if (equivocation === 'seen') return 'equivocation: one version was signed twice';
  if (equivocation === 'unknown') return 'equivocation: its record is damaged';
  if (current !== null && givenUp.includes(current.state)) return current.reason;
  return undefined;
}

function neverHeard(channel: string): ChannelFacts {
  return {
    channel,
    newest: 0,
    isNewestExpired: false,
    equivocation: 'none',
    lastApplied: 0,
    current: null,
  };
}

function worst(verdicts: readonly Verdict[]): Verdict {
  return worstFirst.find((verdict) => verdicts.includes(verdict)) ?? 'converged';
}
