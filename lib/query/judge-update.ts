import type { Update } from '../announcement/update.ts';
import type { Member } from '../daemons/serf/members.ts';
import { isoTime } from '../system/iso-time.ts';
import type { Download } from './downloads.ts';
import {
  describeAbsence,
  type Presence,
  presenceOf,
  type ShownState,
  type Verdict,
} from './judge-fleet.ts';
import type { NodeState, UpdateStatus } from './update-status.ts';

/** Progress of one update on one member. */
export interface NodeProgress {
  name: string;
  member: Presence;
  /** `scheduled`: it has the content, and applies it at a time that is to come. */
  outcome: 'applied' | 'failed' | 'waiting' | 'scheduled' | 'not a target';
  /** null: it has not answered. */
  state: ShownState | null;
  reason: string;
  download?: Download;
  /** Of a noop: some of the properties that would change, and how many more there are. */
  wouldChange?: string[];
  more?: number;
}

/** Progress of one update in the fleet. */
export interface UpdateProgress {
  verdict: Exclude<Verdict, 'stale'>;
  /** Every member that is alive has come to an end. */
  isOver: boolean;
  /** By name; every member, since silence proves nothing. */
  nodes: NodeProgress[];
}

/** A member, or one that was a member in the meantime and is none any more. */
export type KnownMember = Pick<Member, 'name'> & { status: Member['status'] | 'gone' };

/**
 * States of an update that will never be applied, or only by another try in minutes, which may fail as
 * well: a person may look at it now.
 */
const failures: readonly NodeState[] = [
  ...(['FAILED', 'POISONED', 'REJECTED', 'EXPIRED', 'DAMAGED'] as const),
  ...(['SUPERSEDED', 'WITHDRAWN'] as const),
];

/**
 * Judges the progress of one update in the fleet. A member counts as a target until it says that it is none:
 * what Serf knows of its tags is not what it decides by.
 *
 * @param statuses the last response of each member
 * @param nowSeconds unix seconds
 */
export function judgeUpdate(
  update: Pick<Update, 'kind' | 'notBefore'>,
  members: readonly KnownMember[],
  statuses: ReadonlyMap<string, UpdateStatus>,
  nowSeconds: number,
): UpdateProgress {
  const nodes = members
    .map(({ name, status: memberStatus }): NodeProgress => {
      const member = memberStatus === 'gone' ? 'left' : presenceOf({ status: memberStatus });
      const status = statuses.get(name);
      if (status !== undefined) return { name, member, ...shown(status, update, nowSeconds) };
      const absence = member === 'alive' ? 'no answer' : describeAbsence(member);
      const reason = memberStatus === 'gone' ? 'was a member, and is none any more' : absence;
      return { name, member, outcome: 'waiting', state: null, reason };
    })
    .sort((a, b) => a.name.localeCompare(b.name, 'en', { numeric: true }));
  const has = (outcome: NodeProgress['outcome']): boolean =>
    nodes.some((node) => node.outcome === outcome);
  const isWaiting = ({ outcome }: NodeProgress): boolean => outcome === 'waiting';
  return {
    verdict: verdictOf(has),
    isOver: !nodes.some((node) => isWaiting(node) && node.member === 'alive'),
    nodes,
  };
}

function verdictOf(has: (outcome: NodeProgress['outcome']) => boolean): UpdateProgress['verdict'] {
  if (has('failed')) return 'failed';
  if (has('waiting')) return 'pending';
  if (has('scheduled')) return 'scheduled';
  // An update that is for nobody has not converged.
  return has('applied') ? 'converged' : 'pending';
}

/** The status of a node as a person is to read it. */
function shown(
  status: UpdateStatus,
  { kind, notBefore }: Pick<Update, 'kind' | 'notBefore'>,
  nowSeconds: number,
): Omit<NodeProgress, 'name' | 'member'> {
  const { state } = status;
  if (state === 'COMPLETE' && notBefore > nowSeconds) {
    const reason = `until ${isoTime(notBefore)}`;
    return { ...status, outcome: 'scheduled', state: 'WAITING', reason };
  }
  const outcome = outcomeOf(state);
  return {
    ...status,
    outcome,
    state: kind === 'withdraw' && state === 'APPLIED' ? 'WITHDRAWN' : state,
  };
}

function outcomeOf(state: NodeState): NodeProgress['outcome'] {
  if (state === 'APPLIED') return 'applied';
  if (state === 'OTHER') return 'not a target';
  return failures.includes(state) ? 'failed' : 'waiting';
}
