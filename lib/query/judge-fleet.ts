import { keySetChannel } from '../announcement/fields.ts';
import { nameOf } from '../announcement/update.ts';
import type { Member } from '../daemons/serf/members.ts';
import { maxClockLeadSeconds } from '../state/decide.ts';
import { isoTime } from '../system/iso-time.ts';
import type { Announced, AnnouncedUpdates } from './announced.ts';
import { clockFault, fleetTime } from './fleet-clock.ts';
import type { ChannelFacts, CurrentUpdate, NodeFacts, NodeSummary } from './node-summary.ts';
import { describeRunning } from './own-records.ts';
import type { NodeState } from './update-status.ts';

/** Verdict on a node or a fleet, the worst first. */
export type Verdict = 'failed' | 'stale' | 'pending' | 'scheduled' | 'converged';

export const worstFirst: readonly Verdict[] = [
  ...(['failed', 'stale', 'pending', 'scheduled', 'converged'] as const),
];

/** Exit status for each verdict: an update that waits for its time is as its sender wants it. */
export const verdictStatuses: Record<Verdict, number> = {
  converged: 0,
  scheduled: 0,
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

export interface ChannelRow extends Omit<ChannelFacts, 'current'> {
  current: CurrentRow | null;
  verdict: Verdict;
  /** Reason of any verdict but converged; '' for that. */
  why: string;
  /** The key set in force trusts the signers of what it lacks no more: it has to be signed again. */
  isRevoked: boolean;
}

/** WAITING: the content is there, and is applied at a time that is to come. */
export type ShownState = NodeState | 'WAITING';

export interface CurrentRow extends Omit<CurrentUpdate, 'state'> {
  state: ShownState;
  /** Unix seconds before which it is not applied; null: nothing holds it back. */
  until: number | null;
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
  /** The announcements behind the versions in the answers, as far as they are known. */
  announced: AnnouncedUpdates;
  /** The only channel that counts and is shown; undefined: all. */
  channel?: string | undefined;
  /** null: nothing is ever stale. */
  staleAfterSeconds: number | null;
  /** Unix seconds. */
  nowSeconds: number;
}

/** States that a node does not leave by a retry of its own. */
const givenUp: readonly ShownState[] = ['POISONED', 'REJECTED', 'EXPIRED', 'DAMAGED'];
/** States in which nothing is left to do, on purpose. */
const ended: readonly ShownState[] = ['APPLIED', 'SUPERSEDED', 'WITHDRAWN'];
/** States in which a key set ends an update. */
const revocable: readonly ShownState[] = [
  ...(['ACCEPTED', 'QUEUED', 'STALLED', 'COMPLETE', 'STAGED', 'APPLYING', 'FAILED'] as const),
  ...(['WITHDRAWN', 'WAITING'] as const),
];
const revoked = 'the fleet trusts its signer no more: it has to be signed again';

/**
 * Judges a fleet by the summaries of its nodes. A member can say anything, so the verdict is for people:
 * no node acts on it.
 */
export function judgeFleet(input: JudgeInput): FleetStatus {
  const { members, answers, announced, channel, staleAfterSeconds, nowSeconds } = input;
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
    return judgeNode(
      name,
      { ...summary, fault },
      newest,
      isStale(summary.newestCreated),
      rowReader(announced, nowSeconds),
    );
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

type ReadRow = (facts: ChannelFacts, wanted: number) => Omit<ChannelRow, 'verdict' | 'why'>;

/** Adds to the facts of a channel what its announcement says. */
function rowReader(announced: AnnouncedUpdates, nowSeconds: number): ReadRow {
  return (facts, wanted) => {
    const { channel, current } = facts;
    const known = (version: number): Announced | undefined =>
      announced.get(nameOf({ channel, version }));
    const missed = facts.newest < wanted && known(wanted)?.isRevoked === true;
    if (current === null) return { ...facts, current, isRevoked: missed };
    const announcement = known(current.version);
    const isWithdrawal = facts.isWithdrawal || announcement?.kind === 'withdraw';
    const notBefore = announcement?.notBefore ?? 0;
    const until = notBefore > nowSeconds && !isWithdrawal ? notBefore : null;
    // Version 0.2.0 says APPLIED of a withdrawal.
    const isStopped = isWithdrawal && current.state === 'APPLIED';
    const isWaiting = until !== null && current.state === 'COMPLETE';
    const state = isStopped ? 'WITHDRAWN' : isWaiting ? 'WAITING' : current.state;
    const reason = isStopped ? describeRunning(facts.lastApplied) : current.reason;
    // Nothing but a withdrawal, which is then the current one, and a key set makes an update WITHDRAWN.
    const isEnded = state === 'WITHDRAWN' || announcement?.isRevoked === true;
    const isRevoked = missed || (!isWithdrawal && isEnded && revocable.includes(state));
    return { ...facts, current: { ...current, state, reason, until }, isRevoked };
  };
}

function judgeNode(
  name: string,
  { channels: own, ...facts }: NodeSummary,
  newest: ReadonlyMap<string, number>,
  isStale: boolean,
  readRow: ReadRow,
): NodeRow {
  const { epoch, isLimited, fault } = facts;
  const known = new Set(own.map(({ channel }) => channel));
  // Every node follows the key sets, and may have had one placed at set-up.
  const isWanted = (channel: string, version: number): boolean =>
    channel === keySetChannel ? (epoch ?? 0) < version : !isLimited;
  const missing = [...newest]
    .filter(([channel, version]) => !known.has(channel) && isWanted(channel, version))
    .map(([channel]) => neverHeard(channel));
  const rows = [...own, ...missing].map((each): ChannelRow => {
    const wanted = newest.get(each.channel) ?? 0;
    const has = each.channel === keySetChannel ? Math.max(each.newest, epoch ?? 0) : each.newest;
    const row = readRow(each, wanted);
    const why = channelFault(row);
    if (why !== undefined) return { ...row, verdict: 'failed', why };
    if (has < wanted) return { ...row, verdict: 'pending', why: `has not heard of ${wanted}` };
    const { current } = row;
    if (current === null || ended.includes(current.state))
      return { ...row, verdict: 'converged', why: '' };
    if (current.state === 'WAITING' && current.until !== null)
      return { ...row, verdict: 'scheduled', why: `waits until ${isoTime(current.until)}` };
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
function channelFault({
  equivocation,
  current,
  isRevoked,
}: Omit<ChannelRow, 'verdict' | 'why'>): string | undefined {
  if (equivocation === 'seen') return 'equivocation: one version was signed twice';
  if (equivocation === 'unknown') return 'equivocation: its record is damaged';
  if (isRevoked) return revoked;
  if (current !== null && givenUp.includes(current.state)) return current.reason;
  return undefined;
}

function neverHeard(channel: string): ChannelFacts {
  return {
    channel,
    newest: 0,
    isNewestExpired: false,
    isWithdrawal: false,
    equivocation: 'none',
    lastApplied: 0,
    current: null,
  };
}

export function worst(verdicts: readonly Verdict[]): Verdict {
  return worstFirst.find((verdict) => verdicts.includes(verdict)) ?? 'converged';
}
