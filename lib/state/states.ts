import { UpdateError } from '../errors.ts';

/** State of one update on one node, in the order of its life; the last three end it early. */
export type State =
  | 'ACCEPTED'
  | 'QUEUED'
  | 'STALLED'
  | 'COMPLETE'
  | 'STAGED'
  | 'APPLYING'
  | 'APPLIED'
  | 'FAILED'
  | 'POISONED'
  | 'REJECTED'
  | 'SUPERSEDED'
  | 'EXPIRED'
  | 'WITHDRAWN';

const ended: readonly State[] = ['SUPERSEDED', 'EXPIRED', 'WITHDRAWN'];

const next: Record<State, readonly State[]> = {
  ACCEPTED: ['QUEUED', ...ended],
  // REJECTED: the metadata that Transmission fetched is not what was announced.
  QUEUED: ['STALLED', 'COMPLETE', 'REJECTED', ...ended],
  STALLED: ['QUEUED'],
  // QUEUED: the content's hash was wrong. APPLIED: the same content is applied already.
  COMPLETE: ['QUEUED', 'REJECTED', 'STAGED', 'APPLIED', ...ended],
  STAGED: ['APPLYING', ...ended],
  APPLYING: ['APPLIED', 'FAILED'],
  APPLIED: [],
  FAILED: ['STAGED', 'POISONED'],
  POISONED: ['STAGED'],
  REJECTED: [],
  SUPERSEDED: [],
  EXPIRED: [],
  WITHDRAWN: [],
};

/** States in which the apply side is done with the download, or has a copy of its own. */
const pastContent: readonly State[] = [
  'STAGED',
  'APPLYING',
  'APPLIED',
  'FAILED',
  'POISONED',
  'REJECTED',
];

/**
 * Whether the apply side needs the download no more. False also for an ended update: it counts again
 * when its announcement does, as after a change of the node's tags, or of its clock.
 */
export function isPastContent(state: State): boolean {
  return pastContent.includes(state);
}

export function isLegalStep(from: State, to: State): boolean {
  return from === to || next[from].includes(to);
}

/** Whether an update stays in this state unless a person intervenes. */
export function restsAt(state: State): boolean {
  return state === 'POISONED' || next[state].length === 0;
}

/**
 * Checks one step of an update; a step to the same state is always legal.
 *
 * @throws UpdateError `internal` for an illegal step: a fault of this software, to be reported
 */
export function assertLegalStep(from: State, to: State, key: string): void {
  if (isLegalStep(from, to)) return;
  throw new UpdateError('internal', `illegal step of ${key} from ${from} to ${to}`, {
    hint: 'report this with the events.log of the node',
  });
}
