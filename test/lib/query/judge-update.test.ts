import { describe, expect, it } from 'vitest';
import type { NodeState, UpdateStatus } from '../../../lib/query/update-status.ts';
import { judgeUpdate, type UpdateProgress } from '../../../lib/query/judge-update.ts';

interface Given {
  status?: 'alive' | 'failed' | 'left';
  tags?: Record<string, string>;
  state?: NodeState;
}

/** Judges an update on n1, n2 and so on; without a state a node has not answered. */
function judge(nodes: Given[], target = ''): UpdateProgress {
  const members = nodes.map(({ status = 'alive', tags = {} }, i) => ({
    name: `n${i + 1}`,
    status,
    tags,
  }));
  const statuses = new Map<string, UpdateStatus>();
  nodes.forEach(({ state }, i) => {
    if (state !== undefined) statuses.set(`n${i + 1}`, { state, reason: 'why' });
  });
  return judgeUpdate({ channel: 'default', target }, members, statuses);
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

  it('is not missed by a machine that is down and, by its tags, no target', () => {
    const [web, db] = [{ role: 'web' }, { role: 'db' }];
    const nodes: Given[] = [
      { ...applied, tags: web },
      { ...down, tags: db },
    ];
    expect(judge(nodes, 'role=web')).toMatchObject({
      verdict: 'converged',
      nodes: [{ name: 'n1' }],
    });
    const also = judge([...nodes, { ...down, tags: web }], 'role=web');
    expect(also).toMatchObject({ verdict: 'pending', nodes: [{ name: 'n1' }, { name: 'n3' }] });
  });

  it('may be missed by any machine that is down where Serf knows no tags', () => {
    expect(judge([applied, down], 'role=web')).toMatchObject({
      verdict: 'pending',
      nodes: [{ name: 'n1' }, { name: 'n2', outcome: 'waiting', reason: 'down' }],
    });
  });
});
