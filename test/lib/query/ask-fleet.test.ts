import { describe, expect, it } from 'vitest';
import { askMembers, askSummaries, askTargets } from '../../../lib/query/ask-fleet.ts';

interface Asked {
  payload: string;
  seconds: number;
  nodes: readonly string[];
}

/** Serves a fleet whose members answer by a function; undefined is silence. */
function serveFleet(
  names: readonly string[],
  answer: (name: string, after: string, times: number) => string | undefined,
) {
  const asked: Asked[] = [];
  const times = new Map<string, number>();
  const query = (
    _: string,
    payload: string,
    seconds: number,
    nodes: readonly string[] = [],
  ): Promise<Map<string, string>> => {
    asked.push({ payload, seconds, nodes });
    const answers = (nodes.length === 0 ? names : nodes).flatMap((name): [string, string][] => {
      const count = times.get(`${name} ${payload}`) ?? 0;
      times.set(`${name} ${payload}`, count + 1);
      const text = answer(name, payload.replace(/^summary ?/, ''), count);
      return text === undefined ? [] : [[name, text]];
    });
    return Promise.resolve(new Map(answers));
  };
  return { serf: { query }, asked };
}

function page(channels: string[], more = false): string {
  return JSON.stringify({
    ...{ format: 1, software: '1', epoch: 1, created: 5, limited: false, fault: '', more },
    channels: channels.map((channel) => [channel, 7, '', 0]),
  });
}

describe('askMembers', () => {
  it('names the members in the query as long as their names fit', async () => {
    const names = Array.from({ length: 300 }, (_, i) => `node-${i}`);
    const few = serveFleet(names, () => 'x');
    expect((await askMembers(few.serf, 'default@1', names.slice(0, 50))).size).toBe(50);
    expect(few.asked[0]?.nodes).toHaveLength(50);
    const many = serveFleet(names, () => 'x');
    expect((await askMembers(many.serf, 'default@1', names.slice(0, 200))).size).toBe(200);
    expect(many.asked[0]?.nodes).toEqual([]);
  });

  it('sends no query when there are no members', async () => {
    const { serf, asked } = serveFleet(['n1'], () => 'x');
    expect((await askMembers(serf, 'default@1', [])).size).toBe(0);
    expect(asked).toEqual([]);
  });
});

describe('askSummaries', () => {
  it('joins the pages of each member', async () => {
    const { serf, asked } = serveFleet(['n1', 'n2'], (name, after) => {
      if (name === 'n2') return page(['a']);
      return after === '' ? page(['a', 'b'], true) : page(['c']);
    });
    const answers = await askSummaries(serf, ['n1', 'n2']);
    expect(answers.get('n1')?.channels.map(({ channel }) => channel)).toEqual(['a', 'b', 'c']);
    expect(answers.get('n2')?.channels.map(({ channel }) => channel)).toEqual(['a']);
    expect(asked.map(({ payload, nodes }) => [payload, nodes])).toEqual([
      ['summary', ['n1', 'n2']],
      ['summary b', ['n1']],
    ]);
  });

  it('asks silent members once more, by name and for a longer time', async () => {
    const { serf, asked } = serveFleet(['n1', 'n2', 'n3'], (name, _, times) =>
      name === 'n1' || (name === 'n2' && times === 1) ? page(['a']) : undefined,
    );
    const answers = await askSummaries(serf, ['n1', 'n2', 'n3']);
    expect([...answers.keys()]).toEqual(['n1', 'n2']);
    expect(asked.map(({ nodes }) => nodes)).toEqual([
      ['n1', 'n2', 'n3'],
      ['n2', 'n3'],
    ]);
    expect(asked[1]?.seconds).toBeGreaterThan(asked[0]?.seconds ?? 0);
  });

  it('has no summary of a member that falls silent half-way', async () => {
    const { serf } = serveFleet(['n1'], (_, after) =>
      after === '' ? page(['a'], true) : undefined,
    );
    expect((await askSummaries(serf, ['n1'])).has('n1')).toBe(false);
  });

  it.each<[string, (after: string) => string]>([
    ['malformed pages', () => 'rubbish'],
    ['pages that repeat', () => page(['a'], true)],
    ['pages out of order', () => page(['b', 'a'])],
  ])('tells %s apart from silence', async (_, answer) => {
    const { serf } = serveFleet(['n1'], (_name, after) => answer(after));
    expect((await askSummaries(serf, ['n1'])).get('n1')).toBeNull();
  });

  it('stops asking a member for endless pages, which hold up no other member', async () => {
    let next = 0;
    const { serf, asked } = serveFleet(['n1', 'n2'], (name, after) =>
      name === 'n1'
        ? page([`z${String((next += 1)).padStart(5, '0')}`], true)
        : page(after === '' ? ['a'] : []),
    );
    const answers = await askSummaries(serf, ['n1', 'n2']);
    expect([...answers.keys()]).toEqual(['n2']);
    expect(asked.length).toBeLessThan(60);
  });
});

describe('askTargets', () => {
  it('counts the answers of nodes, and names those that do not answer, or are away', async () => {
    const names = ['n1', 'n2', 'n3', 'n4'];
    const { serf, asked } = serveFleet(names, (name, _, times) => {
      if (name === 'n1') return '{"matches":true}';
      // Busy at first.
      if (name === 'n2') return times === 1 ? '{"matches":false}' : undefined;
      return name === 'n3' ? '{"matches":1}' : undefined;
    });
    const member = { address: '192.0.2.1', port: 7946, tags: { role: 'web' } };
    const members = () =>
      Promise.resolve([
        ...names.map((name) => ({ ...member, name, status: 'alive' as const })),
        { ...member, name: 'n5', status: 'failed' as const },
      ]);
    const request = { channel: 'web', target: 'role=web' };
    expect(await askTargets({ ...serf, members }, request)).toEqual({
      matching: ['n1'],
      others: ['n2'],
      silent: [
        { name: 'n3', presence: 'alive' },
        { name: 'n4', presence: 'alive' },
        { name: 'n5', presence: 'down' },
      ],
    });
    expect(asked.map(({ payload, nodes }) => [payload, nodes])).toEqual([
      ['target web role=web', names],
      ['target web role=web', ['n2', 'n4']],
    ]);
  });
});
