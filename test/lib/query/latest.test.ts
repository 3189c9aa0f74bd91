import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { type Announcement, keySetChannel } from '../../../lib/announcement/fields.ts';
import { parseAnnouncement, updateKey } from '../../../lib/announcement/update.ts';
import { type Config, parseConfig } from '../../../lib/config.ts';
import { UpdateError } from '../../../lib/errors.ts';
import {
  answerRequest,
  type Digest,
  parseDigest,
  parseCount,
  parseRequest,
  parseTexts,
} from '../../../lib/query/latest.ts';
import { keepAccepted } from '../../../lib/state/facts.ts';
import { keepKeySet } from '../../../lib/state/key-chain.ts';
import { formatKeySet } from '../../../lib/trust/key-set.ts';
import { makeAnnouncement, makeKeys, signAnnouncement } from '../../support/fleet/announce.ts';
import { temporaryDirectory } from '../../support/run/temporary.ts';

const keys = makeKeys();
const now = Math.floor(Date.now() / 1000);

function makeNode(): Config {
  const directory = temporaryDirectory();
  const at = (name: string): string => join(directory, name);
  writeFileSync(at('keyset.txt'), formatKeySet(keys.keySet));
  const settings = { stateDir: at('state'), applyDir: at('apply'), keySetFile: at('keyset.txt') };
  return parseConfig(JSON.stringify(settings), 'config.json');
}

function hold({ stateDir }: Config, ...changes: Partial<Announcement>[]): string[] {
  return changes.map((change) => {
    const payload = signAnnouncement(makeAnnouncement(change), keys);
    const { update } = parseAnnouncement(payload);
    keepAccepted(stateDir, update, { payload, acceptedAt: '' });
    return payload;
  });
}

const ask = (config: Config, text: string): Promise<string> =>
  answerRequest(parseRequest(text), config, now);

/** Reads every page, as a neighbour does. */
async function pages(config: Config): Promise<Digest[]> {
  const all: Digest[] = [];
  for (let after: string | null = null; ;) {
    const text = await ask(config, after === null ? 'digest' : `digest ${after}`);
    expect(text.length).toBeLessThanOrEqual(900);
    const page = parseDigest(text, after);
    if (page === undefined) throw new Error(text);
    all.push(page);
    if (!page.more) return all;
    after = page.items.at(-1)?.key ?? null;
  }
}

const keysOf = async (config: Config): Promise<string[]> =>
  (await pages(config)).flatMap(({ items }) => items.map(({ key }) => key));

describe('the digest', () => {
  it('arrives whole, page by page, for 64 channels with the longest names', async () => {
    const config = makeNode();
    const names = Array.from(
      { length: 64 },
      (_, i) => `${String(i).padStart(2, '0')}${'x'.repeat(22)}`,
    );
    hold(config, ...names.map((channel) => ({ channel, version: 2 ** 52 + 1 })));
    expect(await keysOf(config)).toEqual(names.map((channel) => `${channel}@${2 ** 52 + 1}`));
    const all = await pages(config);
    expect(all.length).toBeGreaterThan(4);
    expect(new Set(all.map((page) => page.all)).size).toBe(1);
  });

  it('of a node without announcements has no items', async () => {
    expect(await ask(makeNode(), 'digest')).toMatch(/^1 1 0 [0-9a-f]{8}$/);
  });

  it('tells two bodies of one version apart, and two targets', async () => {
    const [a, b] = [makeNode(), makeNode()];
    hold(a, { version: 5, name: 'a.pp' });
    hold(b, { version: 5, name: 'b.pp', target: 'role=web' });
    const [first, second] = [(await pages(a))[0], (await pages(b))[0]];
    expect(first?.items[0]?.key).toBe(second?.items[0]?.key);
    expect(first?.items[0]?.body).not.toBe(second?.items[0]?.body);
    expect(first?.items[0]?.scope).not.toBe(second?.items[0]?.scope);
    expect(first?.all).not.toBe(second?.all);
  });

  it.each<[string, Partial<Announcement>[], string[]]>([
    ['the newest of a channel', [{ version: 5 }, { version: 6 }], ['default@6']],
    [
      'the newest for each target, and of noops, that are newer than the newest for all',
      [
        ...[{ version: 1, target: 'role=db' }, { version: 2, noop: true }, { version: 3 }],
        ...[
          { version: 4, target: 'role=web' },
          { version: 5, target: 'role=web' },
        ],
        ...[
          { version: 6, target: 'role=db' },
          { version: 7, noop: true },
        ],
      ],
      ['default@3', 'default@5', 'default@6', 'default@7'],
    ],
    [
      'no expired announcement, and no older one in its place',
      [{ version: 5 }, { version: 6, created: now - 90, expires: now - 1 }],
      [],
    ],
  ])('offers %s', async (_, changes, expected) => {
    const config = makeNode();
    hold(config, ...changes);
    expect(await keysOf(config)).toEqual(expected);
  });

  it('offers every key set, also those that are left in the chain only', async () => {
    const config = makeNode();
    const keySet = { kind: 'keyset', channel: keySetChannel } as const;
    hold(config, { ...keySet, epoch: 1, version: 2 });
    const payload = signAnnouncement(makeAnnouncement({ ...keySet, epoch: 2, version: 3 }), keys);
    const text = formatKeySet({ ...keys.keySet, epoch: 3 });
    keepAccepted(config.stateDir, { channel: 'x', version: 1 }, { payload: '', acceptedAt: '' });
    mkdirSync(join(config.applyDir, 'keysets'), { recursive: true });
    keepKeySet(config.applyDir, 3, { text, payload });
    expect(await keysOf(config)).toEqual(['keyset@2', 'keyset@3']);
    expect(parseTexts(await ask(config, 'get keyset@3'))).toEqual([payload]);
    expect((await pages(config))[0]?.epoch).toBe(3);
  });

  it('leaves out a damaged fact', async () => {
    const config = makeNode();
    hold(config, { version: 5 }, { channel: 'other', version: 5 });
    const file = join(
      config.stateDir,
      'announcements',
      updateKey({ channel: 'default', version: 5 }),
    );
    rmSync(file);
    writeFileSync(file, 'damaged');
    expect(await keysOf(config)).toEqual(['other@5']);
  });
});

describe('get', () => {
  it('answers in the order asked, as many as fit, and skips absent ones', async () => {
    const config = makeNode();
    const small = { pieces: new Uint8Array() };
    const channels = ['a', 'b', 'c', 'd'];
    const [a, b, c] = hold(
      config,
      ...channels.map((channel) => ({ channel, version: 5, ...small })),
    );
    const text = await ask(config, 'get c@5 x@1 a@6 a@5 b@5 d@5');
    expect(parseTexts(text)).toEqual([c, a, b]);
    expect(text.length).toBeLessThanOrEqual(900);
  });

  it('answers an announcement of the greatest length', async () => {
    const config = makeNode();
    const [payload = ''] = hold(config, {
      version: 5,
      ...{ target: `role=${'x'.repeat(59)}`, name: 'n'.repeat(64), channel: 'c'.repeat(24) },
      pieces: new Uint8Array(20 * 18),
      length: 18 * 16_384,
    });
    expect(payload).toHaveLength(900);
    expect(await ask(config, `get ${'c'.repeat(24)}@5`)).toBe(payload);
  });

  it('answers an empty text when it has none of them', async () => {
    expect(await ask(makeNode(), 'get a@1')).toBe('');
  });
});

describe('newest', () => {
  it('is the highest version of the channel for any target; 0 without one', async () => {
    const config = makeNode();
    hold(config, { version: 5 }, { version: 7, target: 'role=web' }, { channel: 'b', version: 9 });
    expect(await ask(config, 'newest default')).toBe('7');
    expect(await ask(config, 'newest c')).toBe('0');
  });
});

describe('a request', () => {
  it.each([
    '',
    'digest ',
    'digest a@0',
    'digest a@1 b@1',
    'digest ../x@1',
    'get',
    'get ',
    'get a',
    'get a@1  b@1',
    'get a@1\nb@1',
    `get ${Array(9).fill('a@1').join(' ')}`,
    'newest',
    'newest A',
    'newest a b',
    'give a@1',
  ])('%j is refused', (text) => {
    expect(() => parseRequest(text)).toThrow(UpdateError);
  });
});

describe('a reply', () => {
  const item = 'a@1 00000000 11111111';
  it.each([
    ['an empty text', ''],
    ['another format', '2 1 0 00000000'],
    ['a malformed number', '1 x 0 00000000'],
    ['a malformed item', '1 1 1 00000000\na@1'],
    ['an item with control characters', '1 1 1 00000000\na\u0007@1 00000000 11111111'],
    ['a version above 2^53', '1 1 1 00000000\na@9999999999999999 00000000 11111111'],
    ['keys that do not ascend', `1 1 2 00000000\n${item}\n${item}`],
    ['a page without items that says more', '1 1 1 00000000\nmore'],
    ['longer than a response can be', `1 1 1 00000000\n${item}${' '.repeat(1024)}`],
  ])('that has %s is no digest', (_, text) => {
    expect(parseDigest(text)).toBeUndefined();
  });

  it('with keys before the requested ones is no digest', () => {
    expect(parseDigest(`1 1 1 00000000\n${item}`)?.items).toHaveLength(1);
    expect(parseDigest(`1 1 1 00000000\n${item}`, 'a@1')).toBeUndefined();
  });

  it('has texts of printable ASCII only', () => {
    expect(parseTexts('abc\n\nd e\nx\u0000y\nöä\nDEF')).toEqual(['abc', 'DEF']);
    expect(parseTexts('x'.repeat(1025))).toEqual([]);
  });

  it.each([
    ['0', 0],
    ['17\n', 17],
    ['', undefined],
    ['-1', undefined],
    ['1e3', undefined],
    ['9007199254740993', undefined],
    ['17 18', undefined],
  ])('%j to newest is read as %j', (text, expected) => {
    expect(parseCount(text)).toBe(expected);
  });
});
