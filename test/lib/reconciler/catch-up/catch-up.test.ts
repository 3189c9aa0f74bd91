import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { type Announcement, keySetChannel } from '../../../../lib/announcement/fields.ts';
import { nameOf, parseAnnouncement, updateKey } from '../../../../lib/announcement/update.ts';
import { type Config, parseConfig } from '../../../../lib/config.ts';
import { UpdateError } from '../../../../lib/errors.ts';
import { itemOf } from '../../../../lib/query/holdings.ts';
import { answerRequest, formatDigest, parseRequest } from '../../../../lib/query/latest.ts';
import { beginCatchUp } from '../../../../lib/reconciler/catch-up/catch-up.ts';
import {
  type CatchUpRecord,
  readCatchUp,
  writeCatchUp,
} from '../../../../lib/reconciler/catch-up/due.ts';
import type { CatchUpDeps } from '../../../../lib/reconciler/catch-up/neighbours.ts';
import { keepAccepted, listAccepted, readAccepted } from '../../../../lib/state/facts.ts';
import { keepKeySet } from '../../../../lib/state/key-chain.ts';
import type { LoggedEvent } from '../../../../lib/system/event-log.ts';
import { formatKeySet } from '../../../../lib/trust/key-set.ts';
import {
  makeAnnouncement,
  makeKeys,
  signAnnouncement,
  type TestKeys,
} from '../../../support/fleet/announce.ts';
import { temporaryDirectory } from '../../../support/run/temporary.ts';

const keys = makeKeys();
const now = Math.floor(Date.now() / 1000);

/** Response of a member to a request; undefined: none. */
type Answer = (request: string) => string | undefined | Promise<string | undefined>;
type Log = Omit<LoggedEvent, 'handler'>[];

function makeNode(change: Partial<Config> = {}): Config {
  const directory = temporaryDirectory();
  const at = (name: string): string => join(directory, name);
  mkdirSync(at('state'));
  writeFileSync(at('keyset.txt'), formatKeySet(keys.keySet));
  const settings = { stateDir: at('state'), applyDir: at('apply'), keySetFile: at('keyset.txt') };
  return { ...parseConfig(JSON.stringify(settings), 'config.json'), ...change };
}

function sign(change: Partial<Announcement> = {}, by: TestKeys = keys): string {
  return signAnnouncement(makeAnnouncement(change), by);
}

function hold({ stateDir }: Config, ...payloads: string[]): void {
  for (const payload of payloads) {
    const { update } = parseAnnouncement(payload);
    keepAccepted(stateDir, update, { payload, acceptedAt: '' });
  }
}

/** An honest neighbour that holds these announcements. */
function neighbour(...payloads: string[]): Answer {
  const config = makeNode();
  hold(config, ...payloads);
  return (request) => answerRequest(parseRequest(request), config, now);
}

/** A neighbour that claims to hold some announcements, and delivers others. */
async function liar(claimed: readonly string[], delivered: readonly string[]): Promise<Answer> {
  const items = await Promise.all(claimed.map(itemOf));
  const digest = formatDigest(
    items.sort((a, b) => (a.key < b.key ? -1 : 1)),
    1,
  );
  return (request) => (request.startsWith('digest') ? digest : delivered.join('\n'));
}

/** Runs a catch-up of a node in a fleet of these members. */
async function catchUp(
  config: Config,
  members: Record<string, Answer>,
  change: Partial<CatchUpDeps> = {},
): Promise<{ log: Log; queries: string[]; isBegun: boolean }> {
  const log: Log = [];
  const queries: string[] = [];
  const known = ['self', ...Object.keys(members)].map((name) => ({
    ...{ name, address: '192.0.2.1', port: 7946, tags: {} },
    status: 'alive' as const,
  }));
  const begun = beginCatchUp(config, {
    serf: {
      members: () => Promise.resolve(known),
      selfName: () => Promise.resolve('self'),
      async query(_name, request, _seconds, nodes = []) {
        queries.push(`${nodes.join(' ')}: ${request}`);
        const answers = await Promise.all(
          nodes.map(async (name) => [name, await members[name]?.(request)] as const),
        );
        return new Map(
          answers.flatMap(([name, text]) => (text === undefined ? [] : [[name, text]])),
        );
      },
    },
    nowMs: Date.now,
    buildTime: 0,
    log: (event) => log.push(event),
    random: Math.random,
    leftMs: () => 25_000,
    pause: () => Promise.resolve(),
    ...change,
  });
  await begun;
  return { log, queries, isBegun: begun !== undefined };
}

/** Makes the last catch-up look as if it were long ago. */
function makeDue({ stateDir }: Config, change: Partial<CatchUpRecord> = {}): void {
  const last = readCatchUp(stateDir);
  if (last === undefined) throw new Error('there was none');
  writeCatchUp(stateDir, { ...last, startedAt: 0, ...change });
}

const held = ({ stateDir }: Config): string[] => listAccepted(stateDir).map(nameOf);

describe('a catch-up', () => {
  it('fetches the announcements of three random members, and does not ask for them again', async () => {
    const config = makeNode();
    const [a, b, c] = ['a', 'b', 'c'].map((channel) => sign({ channel, version: now }));
    hold(config, a ?? '');
    const members = {
      n1: neighbour(a ?? ''),
      n2: neighbour(a ?? '', b ?? ''),
      n3: neighbour(c ?? ''),
    };
    const first = await catchUp(config, members);
    expect(held(config)).toEqual([`a@${now}`, `b@${now}`, `c@${now}`]);
    const accepted = (channel: string, from: string): object => ({
      ...{ decision: 'accept', channel, version: now },
      reason: `first of its channel, from ${from}`,
    });
    expect(first.log).toHaveLength(2);
    expect(first.log).toEqual(expect.arrayContaining([accepted('b', 'n2'), accepted('c', 'n3')]));
    expect(first.queries).toHaveLength(3);
    expect(readCatchUp(config.stateDir)).toMatchObject({
      left: 'nothing',
      members: 4,
      refused: [],
    });
    // Not due yet; then there is nothing to fetch, and nothing to log.
    expect((await catchUp(config, members)).isBegun).toBe(false);
    makeDue(config);
    const second = await catchUp(config, members);
    expect(second).toMatchObject({ isBegun: true, log: [] });
    expect(second.queries).toHaveLength(1);
  });

  it('asks three of many', async () => {
    const members = Object.fromEntries(
      Array.from({ length: 20 }, (_, index) => [`n${index}`, neighbour()]),
    );
    const { queries } = await catchUp(makeNode(), members);
    expect(queries).toHaveLength(1);
    expect(queries[0]).toMatch(/^n\d+ n\d+ n\d+: digest$/);
  });

  it('fetches 64 channels, one announcement a response, from one neighbour', async () => {
    const config = makeNode();
    const pieces = { pieces: new Uint8Array(20 * 6), length: 6 * 16_384 };
    const payloads = Array.from({ length: 64 }, (_, index) =>
      sign({
        channel: `${String(index).padStart(2, '0')}${'x'.repeat(22)}`,
        version: now,
        ...pieces,
      }),
    );
    await catchUp(config, { n1: neighbour(...payloads) });
    expect(held(config)).toHaveLength(64);
  });

  it('takes the next key set first and alone, and the rest once that is in force', async () => {
    const config = makeNode();
    const next = { ...keys, keySet: { ...keys.keySet, epoch: 2 } };
    const keySet = { kind: 'keyset', channel: keySetChannel } as const;
    const [second, third] = [2, 3].map((version) =>
      sign({ ...keySet, version, epoch: version - 1 }),
    );
    // Signed by keys that the second set has removed.
    const old = sign({ channel: 'a', version: now });
    const newer = sign({ channel: 'z', version: now, epoch: 3 });
    const members = { n1: neighbour(old, second ?? '', third ?? '', newer) };
    await catchUp(config, members);
    expect(held(config)).toEqual(['keyset@2']);
    expect(readCatchUp(config.stateDir)).toMatchObject({ left: 'keys', epoch: 1 });
    expect((await catchUp(config, members)).isBegun).toBe(false);
    mkdirSync(join(config.applyDir, 'keysets'), { recursive: true });
    keepKeySet(config.applyDir, 2, { text: formatKeySet(next.keySet), payload: second ?? '' });
    await catchUp(config, members);
    expect(held(config)).toEqual(['keyset@2', 'keyset@3']);
    // Neither comes into force soon: the rest comes meanwhile, as far as it can be verified.
    makeDue(config);
    const { log } = await catchUp(config, members);
    expect(held(config)).toEqual([`a@${now}`, 'keyset@2', 'keyset@3']);
    expect(log).toContainEqual(expect.objectContaining({ decision: 'wait', channel: 'z' }));
    expect(readCatchUp(config.stateDir)).toMatchObject({ left: 'keys', epoch: 2 });
  });

  it('asks once only for refused announcements, until the keys change', async () => {
    const config = makeNode();
    hold(config, sign({ version: now, target: 'node=nobody' }), sign({ version: now + 1 }));
    const stranger = makeKeys();
    const members = {
      // Older than the held one, of unknown keys, and far above all versions.
      n1: neighbour(
        sign({ version: now - 9, channel: 'b' }, stranger),
        sign({ version: 2 ** 40, channel: 'c' }),
      ),
    };
    const first = await catchUp(config, members);
    expect(first.log.map(({ decision }) => decision)).toEqual(['refuse', 'refuse']);
    makeDue(config);
    const second = await catchUp(config, members);
    expect(second).toMatchObject({ log: [], queries: ['n1: digest'] });
    makeDue(config, { epoch: 0 });
    expect((await catchUp(config, members)).log).toHaveLength(2);
  });

  it('fetches another body of a held version, which is refused', async () => {
    const config = makeNode();
    const ours = sign({ version: now, name: 'ours.pp' });
    hold(config, ours);
    const { log } = await catchUp(config, {
      n1: neighbour(sign({ version: now, name: 'theirs.pp' })),
    });
    expect(log).toMatchObject([{ decision: 'refuse', channel: 'default', version: now }]);
    expect(log[0]?.reason).toMatch(/equivocation.*, from n1$/);
    expect(readAccepted(config.stateDir, { channel: 'default', version: now })?.payload).toBe(ours);
  });

  it('repairs a damaged announcement', async () => {
    const config = makeNode();
    const payload = sign({ version: now });
    hold(config, payload);
    const id = { channel: 'default', version: now };
    writeFileSync(join(config.stateDir, 'announcements', updateKey(id)), 'damaged');
    await catchUp(config, { n1: neighbour(payload) });
    expect(readAccepted(config.stateDir, id)?.payload).toBe(payload);
  });

  it('leaves out channels that this node does not follow', async () => {
    const config = makeNode({ channels: ['a'] });
    const { log } = await catchUp(config, {
      n1: neighbour(sign({ channel: 'a', version: now }), sign({ channel: 'b', version: now })),
    });
    expect(held(config)).toEqual([`a@${now}`]);
    expect(log).toHaveLength(1);
  });

  it('is cut short when the time is over, and due again soon', async () => {
    const config = makeNode();
    let leftMs = 25_000;
    const members = { n1: neighbour(sign({ version: now })) };
    const begun = await catchUp(config, members, { leftMs: () => (leftMs -= 12_000) });
    expect(begun.isBegun).toBe(true);
    expect(held(config)).toEqual([]);
    expect(readCatchUp(config.stateDir)).toMatchObject({ left: 'time' });
  });

  it('asks again, ever more seldom, when nobody has answered, and is due again soon', async () => {
    const config = makeNode();
    const pauses: number[] = [];
    const pause = (ms: number): Promise<void> => Promise.resolve(void pauses.push(ms));
    const silent = { n1: () => undefined };
    let { queries } = await catchUp(config, silent, { pause });
    expect(queries).toEqual(Array<string>(4).fill('n1: digest'));
    expect(pauses).toEqual([3000, 6000, 12_000]);
    expect(readCatchUp(config.stateDir)).toMatchObject({ left: 'time' });

    // One that was busy answers at last.
    makeDue(config);
    const payload = sign({ version: now });
    const honest = neighbour(payload);
    let asked = 0;
    const busy = { n1: (request: string) => ((asked += 1) < 3 ? undefined : honest(request)) };
    ({ queries } = await catchUp(config, busy));
    expect(queries).toHaveLength(4);
    expect(held(config)).toEqual([nameOf(parseAnnouncement(payload).update)]);
  });

  it.each(['unavailable', 'configuration'] as const)(
    'fails, and logs why, when Serf is %s',
    async (code) => {
      const fault = new UpdateError(code, 'no Serf', { hint: 'start it' });
      const down = (): Promise<never> => Promise.reject(fault);
      const log: unknown[] = [];
      const serf = { members: down, selfName: down, query: down };
      const failed = catchUp(makeNode(), {}, { serf, log: (event) => log.push(event) });
      await expect(failed).rejects.toBe(fault);
      expect(log).toEqual([{ decision: 'wait', reason: 'no Serf' }]);
    },
  );

  it('sends no query in a fleet of one', async () => {
    expect(await catchUp(makeNode(), {})).toMatchObject({ isBegun: true, log: [], queries: [] });
  });
});

describe('a bad neighbour does not keep away the announcements of others', () => {
  const id = { channel: 'default', version: now };
  const genuine = sign(id);
  const spoil = (payload: string): string => `${payload.slice(0, -8)}AAAAAAAA`;
  const forged = sign({ version: now + 1 }, makeKeys());
  const many = Array.from({ length: 12 }, (_, index) =>
    sign({ channel: `a${index}`, version: now }, makeKeys()),
  );

  it.each<[string, () => Answer | Promise<Answer>]>([
    ['does not answer', () => () => undefined],
    ['holds nothing', () => neighbour()],
    ['answers the empty text', () => () => ''],
    ['answers rubbish', () => () => '\u0000\uffff'.repeat(400)],
    ['answers too much', () => () => 'x'.repeat(100_000)],
    ['claims announcements that it does not deliver', () => liar([genuine, ...many], [])],
    ['corrupts the signature', () => liar([genuine], [spoil(genuine)])],
    ['delivers a forgery', () => liar([forged], [forged])],
    ['delivers something else', () => liar([genuine], [forged, ...many.slice(0, 2)])],
    ['forges without end', () => liar(many, many)],
    [
      'turns pages without end',
      () => {
        let page = 0;
        return (request) =>
          request.startsWith('digest')
            ? `1 1 9 00000000\na@${(page += 1)} 00000000 00000000\nmore`
            : '';
      },
    ],
    [
      'claims an epoch that no node has',
      () => (request) => (request === 'digest' ? '1 4294967295 0 00000000' : forged),
    ],
  ])('when one %s', async (_, bad) => {
    const config = makeNode();
    const members = { bad: await bad(), good: neighbour(genuine) };
    let rounds = 40;
    await catchUp(config, members, { leftMs: () => (rounds -= 1) * 1000 });
    expect(held(config)).toEqual([nameOf(id)]);
    expect(readAccepted(config.stateDir, id)?.payload).toBe(genuine);
  });

  it('even if it was asked alone before', async () => {
    const config = makeNode();
    const { log } = await catchUp(config, { bad: await liar([genuine], [spoil(genuine)]) });
    expect(log).toMatchObject([{ decision: 'refuse' }]);
    expect(held(config)).toEqual([]);
    makeDue(config);
    await catchUp(config, { good: neighbour(genuine) });
    expect(held(config)).toEqual([nameOf(id)]);
  });
});
