import type { Verdict } from './judge-fleet.ts';
import type { NodeState, UpdateStatus } from './update-status.ts';
import type { Member } from '../daemons/serf/members.ts';
import { matchesTarget } from '../announcement/target.ts';

/** What one update came to on one member. */
export interface NodeProgress {
  name: string;
  member: 'alive' | 'down';
  outcome: 'applied' | 'failed' | 'waiting' | 'not a target';
  /** null: it has not answered. */
  state: NodeState | null;
  reason: string;
  /** Of a noop: some of the properties that would change, and how many more there are. */
  wouldChange?: string[];
  more?: number;
}

export interface UpdateProgress {
  verdict: Extract<Verdict, 'failed' | 'pending' | 'converged'>;
  /** No member that is alive is waited for any more. */
  isOver: boolean;
  /** By name; without those that are down and no target. */
  nodes: NodeProgress[];
}

/**
 * It is not applied, and either never will be or only by another try, in minutes, that may fail like this
 * one: there is something to look at now.
 */
const failures: readonly NodeState[] = [
  ...(['FAILED', 'POISONED', 'REJECTED', 'EXPIRED', 'DAMAGED'] as const),
  ...(['SUPERSEDED', 'WITHDRAWN'] as const),
];

/**
 * Judges how far one update is in the fleet.
 *
 * @param statuses the last answer of each member
 */
export function judgeUpdate(
  { channel, target }: { channel: string; target: string },
  members: readonly Pick<Member, 'name' | 'status' | 'tags'>[],
  statuses: ReadonlyMap<string, UpdateStatus>,
): UpdateProgress {
  // Serf's tags are hearsay, but of a node that is down there is nothing else to go by: unless they
  // match nobody, since tags need not be told to Serf.
  const isTarget = (member: Pick<Member, 'name' | 'tags'>): boolean =>
    matchesTarget(target, channel, member);
  const knowsTargets = members.some(isTarget);
  const nodes = members
    .filter(({ status }) => status !== 'left' && status !== 'leaving')
    .filter((m) => m.status === 'alive' || statuses.has(m.name) || !knowsTargets || isTarget(m))
    .map(({ name, status: memberStatus }): NodeProgress => {
      const member = memberStatus === 'alive' ? 'alive' : 'down';
      const status = statuses.get(name);
      if (status !== undefined)
        return { name, member, outcome: outcomeOf(status.state), ...status };
      const reason = member === 'alive' ? 'no answer' : 'down';
      return { name, member, outcome: 'waiting', state: null, reason };
    })
    .sort((a, b) => a.name.localeCompare(b.name, 'en', { numeric: true }));
  const isWaiting = ({ outcome }: NodeProgress): boolean => outcome === 'waiting';
  const hasFailed = nodes.some(({ outcome }) => outcome === 'failed');
  return {
    verdict: hasFailed ? 'failed' : nodes.some(isWaiting) ? 'pending' : 'converged',
    isOver: !nodes.some((node) => isWaiting(node) && node.member === 'alive'),
    nodes,
  };
}

function outcomeOf(state: NodeState): NodeProgress['outcome'] {
  if (state === 'APPLIED') return 'applied';
  if (state === 'OTHER') return 'not a target';
  return failures.includes(state) ? 'failed' : 'waiting';
}
