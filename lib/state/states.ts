import { UpdateError } from '../errors.ts';

/** How far one update came on one node (design: states of one update). */
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

/** What the apply side may do with downloaded content is done, or it has a copy of its own. */
const pastContent: readonly State[] = [
  'STAGED',
  'APPLYING',
  'APPLIED',
  'FAILED',
  'POISONED',
  'REJECTED',
];

/**
 * True when the apply side needs the download no more. False also for what was ended: it counts again
 * when its announcement does, as after a change of the node's tags, or of its clock.
 */
export function isPastContent(state: State): boolean {
  return pastContent.includes(state);
}

export function isLegalStep(from: State, to: State): boolean {
  return from === to || next[from].includes(to);
}

/** Whether nothing more happens to an update in this state by itself. */
export function restsAt(state: State): boolean {
  return state === 'POISONED' || next[state].length === 0;
}

/**
 * Checks one step of an update; staying where it is is always legal.
 *
 * @throws UpdateError `internal` for an illegal step: a fault of this software, to be reported
 */
export function assertLegalStep(from: State, to: State, key: string): void {
  if (isLegalStep(from, to)) return;
  throw new UpdateError('internal', `illegal step of ${key} from ${from} to ${to}`, {
    hint: 'report this with the events.log of the node',
  });
}
