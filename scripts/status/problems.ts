import { nameOf } from '../../lib/announcement/update.ts';
import {
  type ChannelRow,
  type NodeRow,
  type Verdict,
  worstFirst,
} from '../../lib/query/judge-fleet.ts';
import type { Download } from '../../lib/query/downloads.ts';
import { age, localTime } from '../cli/time.ts';
import { rateText, resultText } from '../cli/cells.ts';

/** Something that is not right, or worth knowing, with all the nodes that it is the same on. */
export interface Problem {
  verdict: Verdict;
  /** One word before it. */
  label: string;
  /** The channel, or its update; '': a node, or the fleet. */
  subject: string;
  what: string;
  /** By name; none: it is the fleet's. */
  nodes: string[];
  help: Help | null;
}

export interface Help {
  /** On the nodes themselves, or on this one. */
  where: 'there' | 'here';
  /** Condition on which it helps; '': none. */
  when: string;
  /** The command and its arguments, as for commandHint: made once it is shown, since that looks at files. */
  words: readonly string[];
}

/** Time after which a step that a node takes by itself is late. */
const lateSeconds = 300;

interface Context {
  /** Unix seconds. */
  at: number;
  newestCreated: number | null;
  isStale: boolean;
  staleAfterSeconds: number | null;
}

/** A problem of one node; downloads of one update are one problem, however far each is. */
type Found = Omit<Problem, 'nodes'> & { download?: Download };

/** Lists what is not right, the worst first, and last what is worth knowing; the same on many nodes is one. */
export function listProblems(nodes: readonly NodeRow[], context: Context): Problem[] {
  const groups = new Map<string, Problem>();
  const downloads = new Map<Problem, Download[]>();
  const add = (name: string, problem: Found): void => {
    const { download, ...found } = problem;
    const key = [found.verdict, found.subject, found.what].join('\0');
    const group: Problem = groups.get(key) ?? { ...found, nodes: [] };
    groups.set(key, group);
    group.nodes.push(name);
    if (download !== undefined) downloads.set(group, [...(downloads.get(group) ?? []), download]);
  };
  for (const node of nodes) {
    const own = problemOfNode(node);
    // A fleet without news has no node with any.
    const isTold = own?.verdict === 'stale' && context.isStale;
    if (own !== undefined && !isTold) add(node.name, own);
    for (const row of node.channels) {
      const problem = problemOfRow(row, context.at);
      if (problem !== undefined) add(node.name, problem);
    }
  }
  for (const [problem, each] of downloads) problem.what += `: ${rateText(each)}`;
  const problems = [...problemsOfFleet(context), ...groups.values()];
  return problems.sort((a, b) => rank(a) - rank(b) || b.nodes.length - a.nodes.length);
}

/** By the verdict; what goes on by itself comes after what a command helps. */
function rank({ verdict, help }: Problem): number {
  return 2 * worstFirst.indexOf(verdict) + Number(help === null);
}

function problemsOfFleet({ at, newestCreated, isStale, staleAfterSeconds }: Context): Problem[] {
  if (!isStale || newestCreated === null || staleAfterSeconds === null) return [];
  const what = `the newest announcement is ${age(at - newestCreated)} old, more than ${age(staleAfterSeconds)}`;
  const help: Help = { where: 'here', when: '', words: ['submit', '--renew'] };
  return [{ verdict: 'stale', label: 'stale', subject: '', what, nodes: [], help }];
}

function problemOfNode(node: NodeRow): Found | undefined {
  const { name, member, facts, verdict, why } = node;
  const common = { verdict, label: verdict, subject: '' };
  const doctor: Help = { where: 'there', when: '', words: ['doctor'] };
  if (facts === null) {
    const words = ['retire', name];
    const retire: Help = { where: 'here', when: 'if gone for good', words };
    return { ...common, what: why, help: member === 'alive' ? doctor : retire };
  }
  if (facts.fault !== '') return { ...common, what: facts.fault, help: doctor };
  const isOfRow = node.channels.some((row) => row.verdict === verdict && row.why === why);
  if (verdict === 'converged' || isOfRow) return undefined;
  return { ...common, what: why, help: doctor };
}

function problemOfRow(row: ChannelRow, at: number): Found | undefined {
  const { channel, current, verdict, why } = row;
  if (verdict === 'converged') {
    if (current?.state !== 'WITHDRAWN') return undefined;
    return { verdict, label: 'withdrawn', subject: channel, what: current.reason, help: null };
  }
  const common = { verdict, label: verdict, help: helpFor(row, at) };
  if (current === null || !isOfState(row)) return { ...common, subject: channel, what: why };
  // The version stands above, in the line of the channel, unless it is an older one.
  const subject =
    current.version === row.newest ? channel : nameOf({ channel, version: current.version });
  const { state, until, download } = current;
  if (state === 'QUEUED' && download !== null) return { ...common, subject, what: state, download };
  const text = state === 'WAITING' ? '' : `: ${resultText(current)}`;
  const later = until === null ? '' : ` until ${localTime(until, at)}`;
  const part = download === null ? '' : ` at ${download.percent} %`;
  return { ...common, subject, what: `${state}${part}${later}${text}` };
}

/** Whether the verdict on a channel comes from the state of its update. */
function isOfState({ why, current, equivocation, isRevoked, verdict }: ChannelRow): boolean {
  if (equivocation !== 'none' || isRevoked || current === null) return false;
  return verdict === 'scheduled' || why === current.reason;
}

/** The command that helps, if there is one. */
function helpFor(row: ChannelRow, at: number): Help | null {
  const { channel, current, equivocation, isRevoked, verdict, why } = row;
  if (verdict === 'scheduled') return null;
  const here = (...words: string[]): Help => ({ where: 'here', when: '', words });
  const there = (...words: string[]): Help => ({ where: 'there', when: '', words });
  if (equivocation === 'seen') return here('submit', 'FILE', '--channel', channel);
  if (equivocation === 'unknown') return there('doctor');
  if (isRevoked) return here('submit', '--renew', '--all');
  if (current === null || why !== current.reason) return there('reconcile');
  const name = nameOf({ channel, version: current.version });
  switch (current.state) {
    case 'FAILED':
    case 'POISONED':
      return there('retry', name);
    case 'EXPIRED':
      return here('submit', '--renew', name);
    case 'REJECTED':
      return there('log', name);
    case 'DAMAGED':
    case 'STALLED':
      return there('doctor');
    default:
      return at - current.since > lateSeconds ? there('log', name) : null;
  }
}
