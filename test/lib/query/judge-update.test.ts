import { describe, expect, it } from 'vitest';
import type { NodeState, UpdateStatus } from '../../../lib/query/update-status.ts';
import { judgeUpdate, type UpdateProgress } from '../../../lib/query/judge-update.ts';

const now = 1_900_000_000;

interface Given {
  status?: 'alive' | 'failed' | 'left' | 'gone';
  state?: NodeState;
}

/** Judges an update on n1, n2 and so on; without a state a node has not answered. */
function judge(
  nodes: Given[],
  change: { kind?: 'manifest' | 'withdraw'; notBefore?: number } = {},
): UpdateProgress {
  const members = nodes.map(({ status = 'alive' }, i) => ({ name: `n${i + 1}`, status }));
  const statuses = new Map<string, UpdateStatus>();
  nodes.forEach(({ state }, i) => {
    if (state !== undefined) statuses.set(`n${i + 1}`, { state, reason: 'why' });
  });
  return judgeUpdate({ kind: 'manifest', notBefore: 0, ...change }, members, statuses, now);
}

describe('an update on a node', () => {
  it.each<[NodeState, string]>([
    ['APPLIED', 'applied'],
    ['OTHER', 'not a target'],
    ['UNKNOWN', 'waiting'],
    ['ACCEPTED', 'waiting'],
    ['QUEUED', 'waiting'],
    ['STALLED', 'waiting'],
    ['COMPLETE', 'waiting'],
    ['STAGED', 'waiting'],
    ['APPLYING', 'waiting'],
    ['FAILED', 'failed'],
    ['POISONED', 'failed'],
    ['REJECTED', 'failed'],
    ['EXPIRED', 'failed'],
    ['SUPERSEDED', 'failed'],
    ['WITHDRAWN', 'failed'],
    ['DAMAGED', 'failed'],
  ])('that is %s is %s', (state, outcome) => {
    expect(judge([{ state }]).nodes).toMatchObject([{ name: 'n1', outcome, reason: 'why' }]);
  });
});

describe('an update in the fleet', () => {
  const applied: Given = { state: 'APPLIED' };
  const down: Given = { status: 'failed' };
  it.each<[string, Given[], string, boolean]>([
    ['is applied by all', [applied, applied], 'converged', true],
    ['is applied by its only target', [applied, { state: 'OTHER' }], 'converged', true],
    ['is on its way', [applied, { state: 'QUEUED' }], 'pending', false],
    ['has failed on one, and goes on', [{ state: 'FAILED' }, { state: 'QUEUED' }], 'failed', false],
    ['has failed on one', [{ state: 'FAILED' }, applied], 'failed', true],
    ['waits for an answer', [applied, {}], 'pending', false],
    ['does not wait for a node that is down', [applied, down], 'pending', true],
    [
      'misses a node that left, and does not wait for it',
      [applied, { status: 'left' }],
      'pending',
      true,
    ],
    ['was applied by one that is down now', [{ ...applied, ...down }], 'converged', true],
  ])('%s', (_, nodes, verdict, isOver) => {
    expect(judge(nodes)).toMatchObject({ verdict, isOver });
  });

  it('names every member that has not answered, whatever Serf says of it, and is no success', () => {
    const nodes: Given[] = [applied, down, { status: 'left' }, { status: 'gone' }];
    const waiting = { outcome: 'waiting', state: null };
    expect(judge(nodes)).toMatchObject({
      verdict: 'pending',
      isOver: true,
      nodes: [
        { name: 'n1', outcome: 'applied' },
        { name: 'n2', ...waiting, member: 'down', reason: 'down' },
        { name: 'n3', ...waiting, member: 'left', reason: 'has left, and was not retired' },
        { name: 'n4', ...waiting, member: 'left', reason: 'was a member, and is none any more' },
      ],
    });
  });

  it('that is for no node has not converged', () => {
    expect(judge([{ state: 'OTHER' }, { state: 'OTHER' }])).toMatchObject({
      verdict: 'pending',
      isOver: true,
    });
  });

  it.each<[string, Given[], string, boolean]>([
    ['is there on all', [{ state: 'COMPLETE' }, { state: 'OTHER' }], 'scheduled', true],
    ['is there on some', [{ state: 'COMPLETE' }, { state: 'QUEUED' }], 'pending', false],
    ['is there on those that are up', [{ state: 'COMPLETE' }, down], 'pending', true],
    ['was applied before on one', [{ state: 'COMPLETE' }, applied], 'scheduled', true],
  ])('with a time that is to come %s', (_, nodes, verdict, isOver) => {
    const progress = judge(nodes, { notBefore: now + 60 });
    expect(progress).toMatchObject({ verdict, isOver });
    const at = new Date((now + 60) * 1000).toISOString();
    expect(progress.nodes[0]).toMatchObject({
      outcome: 'scheduled',
      state: 'WAITING',
      reason: `until ${at}`,
    });
  });

  it('whose time has come is waited for', () => {
    expect(judge([{ state: 'COMPLETE' }], { notBefore: now })).toMatchObject({
      verdict: 'pending',
      nodes: [{ outcome: 'waiting', state: 'COMPLETE' }],
    });
  });

  it('is WITHDRAWN, and that is done, where a withdrawal has come', () => {
    expect(judge([applied], { kind: 'withdraw' })).toMatchObject({
      verdict: 'converged',
      nodes: [{ outcome: 'applied', state: 'WITHDRAWN', reason: 'why' }],
    });
  });
});
