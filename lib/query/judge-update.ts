import { matchesTarget } from '../announcement/target.ts';
import type { Member } from '../daemons/serf/members.ts';
import { describeAbsence, type Presence, presenceOf, type Verdict } from './judge-fleet.ts';
import type { NodeState, UpdateStatus } from './update-status.ts';

/** Progress of one update on one member. */
export interface NodeProgress {
  name: string;
  member: Presence;
  outcome: 'applied' | 'failed' | 'waiting' | 'not a target';
  /** null: it has not answered. */
  state: NodeState | null;
  reason: string;
  /** Of a noop: some of the properties that would change, and how many more there are. */
  wouldChange?: string[];
  more?: number;
}

/** Progress of one update in the fleet. */
export interface UpdateProgress {
  verdict: Extract<Verdict, 'failed' | 'pending' | 'converged'>;
  /** Every member that is alive has come to an end. */
  isOver: boolean;
  /** By name; without those that are down and no target. */
  nodes: NodeProgress[];
}

/**
 * States of an update that will never be applied, or only by another try in minutes, which may fail as
 * well: a person may look at it now.
 */
const failures: readonly NodeState[] = [
  ...(['FAILED', 'POISONED', 'REJECTED', 'EXPIRED', 'DAMAGED'] as const),
  ...(['SUPERSEDED', 'WITHDRAWN'] as const),
];

/**
 * Judges the progress of one update in the fleet.
 *
 * @param statuses the last response of each member
 */
export function judgeUpdate(
  { channel, target }: { channel: string; target: string },
  members: readonly Pick<Member, 'name' | 'status' | 'tags'>[],
  statuses: ReadonlyMap<string, UpdateStatus>,
): UpdateProgress {
  // Serf's tags are hearsay, but the only source for a node that is down. They are ignored when they match
  // no member, since a node need not tell Serf its tags.
  const isTarget = (member: Pick<Member, 'name' | 'tags'>): boolean =>
    matchesTarget(target, channel, member);
  const knowsTargets = members.some(isTarget);
  const nodes = members
    .filter((m) => m.status === 'alive' || statuses.has(m.name) || !knowsTargets || isTarget(m))
    .map(({ name, status: memberStatus }): NodeProgress => {
      const member = presenceOf({ status: memberStatus });
      const status = statuses.get(name);
      if (status !== undefined)
        return { name, member, outcome: outcomeOf(status.state), ...status };
      const reason = member === 'alive' ? 'no answer' : describeAbsence(member);
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
