import { describe, expect, it } from 'vitest';
import { type FleetStatus, judgeFleet, verdictStatuses } from '../../../lib/query/judge-fleet.ts';
import type { Announced } from '../../../lib/query/announced.ts';
import type { ChannelFacts, NodeSummary } from '../../../lib/query/node-summary.ts';
import type { NodeState } from '../../../lib/query/update-status.ts';
import { announcedManifest } from '../../support/fleet/made-fleet.ts';

const now = 1_900_000_000;

/** A channel whose newest version is applied; `change` replaces fields. */
function channel(change: Partial<ChannelFacts> & { state?: NodeState } = {}): ChannelFacts {
  const { state = 'APPLIED', ...facts } = change;
  const newest = facts.newest ?? 7;
  const current = {
    version: newest,
    state,
    since: now - 60,
    reason: 'why',
    run: null,
    download: null,
  };
  return {
    channel: 'default',
    newest,
    isNewestExpired: false,
    isWithdrawal: false,
    equivocation: 'none',
    lastApplied: 7,
    current,
    ...facts,
  };
}

function node(channels: ChannelFacts[], change: Partial<NodeSummary> = {}): NodeSummary {
  return {
    software: '1.0.0',
    epoch: 1,
    newestCreated: now - 100,
    isLimited: false,
    fault: '',
    channels,
    ...change,
  };
}

type Status = 'alive' | 'failed' | 'left' | 'leaving' | 'none';

/** Judges a fleet of n1, n2 and so on; undefined: the node did not answer. */
function judge(
  answers: (NodeSummary | null | undefined)[],
  statuses: Status[] = [],
  staleAfterSeconds: number | null = 1000,
  only?: string,
  announced: Record<string, Partial<Announced>> = {},
): FleetStatus {
  const names = answers.map((_, i) => `n${i + 1}`);
  return judgeFleet({
    members: names.map((name, i) => ({ name, status: statuses[i] ?? 'alive' })),
    answers: new Map(
      names.flatMap((name, i) => {
        const answer = answers[i];
        return answer === undefined ? [] : [[name, answer]];
      }),
    ),
    announced: new Map(
      Object.entries(announced).map(([key, change]) => [key, announcedManifest(change)]),
    ),
    channel: only,
    staleAfterSeconds,
    nowSeconds: now,
  });
}

describe('a node', () => {
  it.each<[string, ChannelFacts, ChannelFacts, string]>([
    ['has applied the newest', channel(), channel(), 'converged'],
    ['is no target of any', channel({ current: null }), channel(), 'converged'],
    ['ended it for a newer one', channel({ state: 'SUPERSEDED' }), channel(), 'converged'],
    [
      'saw it withdrawn',
      channel({ state: 'WITHDRAWN', isWithdrawal: true }),
      channel(),
      'converged',
    ],
    ['lost it to a key set', channel({ state: 'WITHDRAWN' }), channel(), 'failed'],
    ['downloads', channel({ state: 'QUEUED' }), channel(), 'pending'],
    ['is stalled', channel({ state: 'STALLED' }), channel(), 'pending'],
    ['waits for its time', channel({ state: 'STAGED' }), channel(), 'pending'],
    ['has tries left', channel({ state: 'FAILED' }), channel(), 'pending'],
    ['has given up', channel({ state: 'POISONED' }), channel(), 'failed'],
    ['got other content', channel({ state: 'REJECTED' }), channel(), 'failed'],
    ['was too late', channel({ state: 'EXPIRED' }), channel(), 'failed'],
    ['has a damaged record', channel({ state: 'DAMAGED' }), channel(), 'failed'],
    ['has an older one', channel({ newest: 6 }), channel(), 'pending'],
    ['has nothing yet', channel({ newest: 0, current: null }), channel(), 'pending'],
    ['is behind one for others', channel({ newest: 6 }), channel({ current: null }), 'pending'],
    [
      'lacks one that has expired',
      channel({ newest: 6 }),
      channel({ isNewestExpired: true }),
      'converged',
    ],
    ['was equivocated on', channel({ equivocation: 'seen' }), channel(), 'failed'],
    ['was perhaps equivocated on', channel({ equivocation: 'unknown' }), channel(), 'failed'],
  ])('%s', (_, own, others, verdict) => {
    const status = judge([node([own]), node([others])]);
    expect(status.nodes[0]?.channels[0]).toMatchObject({ verdict });
    expect(status.nodes[0]?.channels[0]?.why === '').toBe(verdict === 'converged');
    expect(status.nodes[1]?.verdict).toBe('converged');
    expect(status.verdict).toBe(verdict);
  });

  it('is pending on a channel that it has never heard of', () => {
    const status = judge([node([]), node([channel()])]);
    expect(status.nodes[0]).toMatchObject({
      verdict: 'pending',
      channels: [{ channel: 'default', newest: 0, why: 'has not heard of 7' }],
    });
  });

  it('need not hold a channel that it does not follow', () => {
    const lab = channel({ channel: 'lab' });
    const status = judge([node([lab], { isLimited: true }), node([channel(), lab])]);
    expect(status.verdict).toBe('converged');
    expect(status.nodes[0]?.channels.map((row) => row.channel)).toEqual(['lab']);
  });
});

describe('the clock of a node', () => {
  const day = 86_400;
  const at = (clock: number): NodeSummary => node([], { clock });

  it.each<[string, NodeSummary[], string[]]>([
    ['that version 0.2.0 does not tell', [node([]), node([])], ['', '']],
    ['that is near enough', [at(now - 600), at(now), at(now + 600)], ['', '', '']],
    [
      'that is wrong on one of two nodes',
      [at(now), at(now - 400 * day)],
      ['', "its clock is 400 days behind the fleet's"],
    ],
    [
      'that is wrong on the machine that asks',
      [at(now), at(now - 3 * 3600), at(now - 3 * 3600)],
      ["its clock is 3 hours ahead of the fleet's", '', ''],
    ],
  ])('%s', (_, answers, whys) => {
    const { nodes } = judge(answers);
    expect(nodes.map(({ why }) => why)).toEqual(whys);
    expect(nodes.map(({ verdict }) => verdict)).toEqual(
      whys.map((why) => (why === '' ? 'converged' : 'failed')),
    );
  });

  it('is named beside another fault', () => {
    const { nodes } = judge([at(now), node([], { clock: now - 700, fault: 'disk full' })]);
    expect(nodes[1]?.why).toBe("disk full; its clock is 12 minutes behind the fleet's");
  });

  it('does not make a frozen fleet look fresh by an announcement of the future', () => {
    const [old, future] = [now - 5000, now + 400 * day];
    const { verdict, newestCreated } = judge([
      node([], { newestCreated: old }),
      node([], { newestCreated: future }),
    ]);
    expect({ verdict, newestCreated }).toEqual({ verdict: 'stale', newestCreated: old });
  });
});

describe('key sets', () => {
  const third = channel({ channel: 'keyset', newest: 3 });
  it.each<[string, NodeSummary, string]>([
    ['placed at set-up count like announced ones', node([], { epoch: 3 }), 'converged'],
    ['are missing', node([], { epoch: 2 }), 'pending'],
    ['are followed by every node', node([], { epoch: 2, isLimited: true }), 'pending'],
    [
      'are older, and later replaced by hand',
      node([channel({ channel: 'keyset', newest: 2 })], { epoch: 3 }),
      'converged',
    ],
    ['cannot be used', node([third], { epoch: null, fault: 'damaged' }), 'failed'],
  ])('%s', (_, own, verdict) => {
    expect(judge([own, node([third], { epoch: 3 })]).nodes[0]?.verdict).toBe(verdict);
  });
});

describe('members', () => {
  it('that are down, silent or send malformed responses are listed as such, and do not fail the fleet', () => {
    const fine = node([channel()]);
    const status = judge([fine, undefined, undefined, null], ['alive', 'failed', 'alive', 'alive']);
    expect(
      status.nodes.map(({ name, member, facts, why }) => [name, member, facts !== null, why]),
    ).toEqual([
      ['n1', 'alive', true, ''],
      ['n2', 'down', false, 'down'],
      ['n3', 'alive', false, 'no answer'],
      ['n4', 'alive', false, 'malformed response'],
    ]);
    expect(status.verdict).toBe('pending');
  });

  it('that left are missed, by name', () => {
    const status = judge([node([channel()]), undefined, undefined], ['alive', 'left', 'leaving']);
    const absent = { member: 'left', verdict: 'pending', why: 'has left, and was not retired' };
    expect(status).toMatchObject({
      verdict: 'pending',
      nodes: [{ name: 'n1' }, { name: 'n2', ...absent }, { name: 'n3', ...absent }],
    });
  });

  it('are listed in the order of their numbers', () => {
    const status = judge(Array.from({ length: 11 }, () => node([])));
    expect(status.nodes.map(({ name }) => name).slice(8)).toEqual(['n9', 'n10', 'n11']);
  });
});

describe('the verdict stale', () => {
  it.each<[string, (number | null)[], number | null, string]>([
    ['is not given to a fleet with fresh news', [now - 1000, now - 1000], 1000, 'converged'],
    ['is given to a fleet without news', [now - 1001, now - 1001], 1000, 'stale'],
    ['is given for one frozen node', [now - 1001, now - 5], 1000, 'stale'],
    ['is never given without a limit', [now - 1001, now - 1001], null, 'converged'],
    ['is not given where nothing was ever announced', [null, null], 1000, 'converged'],
  ])('%s', (_, created, limit, verdict) => {
    const answers = created.map((newestCreated) => node([channel()], { newestCreated }));
    expect(judge(answers, [], limit).verdict).toBe(verdict);
  });

  it('is not given to a node that follows few channels', () => {
    const old = { newestCreated: now - 5000, isLimited: true };
    expect(judge([node([], old), node([channel()])]).verdict).toBe('converged');
  });

  it.each<[string, NodeSummary[], string, number]>([
    [
      'less than a failure',
      [node([channel({ state: 'POISONED' })], { newestCreated: 1 })],
      'failed',
      1,
    ],
    ['more than waiting', [node([channel({ state: 'QUEUED' })], { newestCreated: 1 })], 'stale', 2],
  ])('counts %s', (_, answers, verdict, status) => {
    const judged = judge(answers);
    expect(judged.verdict).toBe(verdict);
    expect(verdictStatuses[judged.verdict]).toBe(status);
  });
});

describe('one channel alone', () => {
  it('is shown and judged', () => {
    const answers = [node([channel(), channel({ channel: 'web', state: 'POISONED' })])];
    expect(judge(answers).verdict).toBe('failed');
    const status = judge(answers, [], 1000, 'default');
    expect(status.verdict).toBe('converged');
    expect(status.nodes[0]?.channels.map((row) => row.channel)).toEqual(['default']);
  });
});

describe('an announcement that is known', () => {
  const judgeOne = (own: ChannelFacts, change: Partial<Announced>, others = channel()) =>
    judge([node([own]), node([others])], [], 1000, undefined, { 'default@7': change }).nodes[0];

  it.each<[string, NodeState, string, string]>([
    ['has come', 'COMPLETE', 'scheduled', 'WAITING'],
    ['is on its way', 'QUEUED', 'pending', 'QUEUED'],
    ['was applied before', 'APPLIED', 'converged', 'APPLIED'],
  ])('says how long content that %s waits', (_, state, verdict, shown) => {
    const row = judgeOne(channel({ state }), { notBefore: now + 60 });
    expect(row).toMatchObject({
      verdict,
      channels: [{ verdict, current: { state: shown, until: now + 60 } }],
    });
  });

  it('whose time has come holds nothing back', () => {
    const row = judgeOne(channel({ state: 'COMPLETE' }), { notBefore: now - 1 });
    expect(row).toMatchObject({
      verdict: 'pending',
      channels: [{ current: { state: 'COMPLETE', until: null } }],
    });
  });

  it('is a withdrawal, of which version 0.2.0 says that it is applied', () => {
    const row = judgeOne(channel({ lastApplied: 5 }), { kind: 'withdraw' });
    expect(row).toMatchObject({
      verdict: 'converged',
      channels: [{ current: { state: 'WITHDRAWN', reason: 'runs 5' }, isRevoked: false }],
    });
  });

  it.each<[string, ChannelFacts, string]>([
    ['a node has withdrawn', channel({ state: 'WITHDRAWN' }), 'failed'],
    ['a node downloads', channel({ state: 'QUEUED' }), 'failed'],
    ['a node tries again', channel({ state: 'FAILED' }), 'failed'],
    ['a node cannot get any more', channel({ newest: 6 }), 'failed'],
    ['a node has applied', channel(), 'converged'],
  ])('and is trusted no more fails where %s it', (_, own, verdict) => {
    const row = judgeOne(own, { isRevoked: true });
    expect(row).toMatchObject({ verdict });
    if (verdict === 'failed') expect(row?.why).toMatch(/trusts its signer no more/);
  });
});
