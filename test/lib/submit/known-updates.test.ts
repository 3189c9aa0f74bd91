import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { updateKey } from '../../../lib/announcement/update.ts';
import { parseConfig } from '../../../lib/config.ts';
import { UpdateError } from '../../../lib/errors.ts';
import { askBySerf, chooseVersion, findNewest } from '../../../lib/submit/known-updates.ts';
import { keepAccepted } from '../../../lib/state/facts.ts';
import { announcementsDir } from '../../../lib/submit/published.ts';
import { encodeRecord } from '../../../lib/system/record.ts';
import { makeAnnouncement, makeKeys, signAnnouncement } from '../../support/fleet/announce.ts';
import { temporaryDirectory } from '../../support/run/temporary.ts';

const now = 1_800_000_000;
const keys = makeKeys();

interface Known {
  /** Held by this node: versions, with their creation; null: damaged. */
  held?: [version: number, created: number | null][];
  /** Submitted here. */
  kept?: [version: number, created: number | null][];
}

/** Finds the newest version, and the warnings, for versions known here and these answers of members. */
async function find({ held = [], kept = [] }: Known, answers: Record<string, string> | 'down') {
  const directory = temporaryDirectory();
  const config = {
    ...parseConfig('{}', 'the defaults'),
    stateDir: join(directory, 'state'),
    publishDir: join(directory, 'publish'),
  };
  mkdirSync(config.stateDir);
  mkdirSync(announcementsDir(config), { recursive: true });
  const payloadOf = (version: number, created: number | null): string =>
    created === null
      ? ''
      : signAnnouncement(
          makeAnnouncement({ channel: 'web', version, created, expires: created + 10 }),
          keys,
        );
  for (const [version, created] of held) {
    const stored = { payload: payloadOf(version, created), acceptedAt: '' };
    keepAccepted(config.stateDir, { channel: 'web', version }, stored);
  }
  for (const [version, created] of kept) {
    const id = { channel: 'web', version };
    const record = { ...id, payload: payloadOf(version, created), metainfo: null };
    writeFileSync(join(announcementsDir(config), updateKey(id)), encodeRecord(record));
  }
  const warnings: string[] = [];
  const queries: string[] = [];
  const serf = {
    query(name: string, request: string) {
      queries.push(`${name}: ${request}`);
      if (answers !== 'down') return Promise.resolve(new Map(Object.entries(answers)));
      return Promise.reject(new UpdateError('unavailable', 'Serf is down', { hint: 'start it' }));
    },
    selfName: () => Promise.resolve('n1'),
  };
  const fleet = askBySerf(serf, (message) => warnings.push(message));
  const newest = await findNewest('web', config, fleet, now);
  expect(queries).toEqual(['update-latest: newest web']);
  return { newest, warnings };
}

describe('findNewest', () => {
  it.each<[string, number | undefined, Record<string, string> | 'down', number]>([
    ['known here, when Serf is down', 5, 'down', 5],
    ['0 when none is known', undefined, { n1: '0' }, 0],
    ['that a member holds, when it is the highest', 5, { n1: '7', n2: '6' }, 7],
    ['known here, when the members have older ones', 9, { n1: '7' }, 9],
    ['known here, when the members answer rubbish', 9, { n1: 'x', n2: '', n3: '1e9' }, 9],
  ])('finds the version %s', async (_, here, answers, newest) => {
    const held: Known['held'] = here === undefined ? [] : [[here, null]];
    expect(await find({ held }, answers)).toEqual({ newest, warnings: [] });
  });

  it('ignores a version that leaves no room for a next one, and warns of it', async () => {
    const most = now + 2 ** 20 - 600;
    expect((await find({ held: [[5, 5]] }, { n1: String(most) })).newest).toBe(most);
    const { newest, warnings } = await find(
      { held: [[5, 5]] },
      { 'n\n1': String(most + 1), n2: '6' },
    );
    expect(newest).toBe(6);
    expect(warnings).toEqual([`n?1 says that ${most + 1} is the newest of web: ignored`]);
    // A version that is known here was accepted, so it counts.
    expect((await find({ held: [[now + 2 ** 20, null]] }, { n1: String(most + 1) })).newest).toBe(
      now + 2 ** 20,
    );
  });
});

describe('findNewest under a clock that was ahead once', () => {
  const ahead = now + 400 * 86_400;
  const soon = now + 5 * 86_400;
  it.each<[string, Known, number]>([
    [
      'one signed 400 days ahead, that no node took',
      { held: [[now - 9, now - 9]], kept: [[ahead, ahead]] },
      now - 9,
    ],
    ['one signed five days ahead, that no node took', { held: [[7, 7]], kept: [[soon, soon]] }, 7],
    [
      'one signed 400 days ahead, that this node took by the same clock',
      { held: [[ahead, ahead]] },
      0,
    ],
    [
      'the last version of all, planted',
      { held: [[2 ** 53 - 1, null]], kept: [[2 ** 53 - 1, null]] },
      0,
    ],
  ])('leaves out %s', async (_, known, newest) => {
    expect(await find(known, 'down')).toEqual({ newest, warnings: [] });
  });

  it.each<[string, Known, number]>([
    ['one signed five days ahead, that this node took', { held: [[soon, soon]] }, soon],
    [
      'one that this node took in two steps by hand',
      { held: [[now + 2 ** 21, now - 9]] },
      now + 2 ** 21,
    ],
    [
      'one that was submitted here in two steps by hand',
      {
        kept: [
          [now + 2 ** 20, now - 99],
          [now + 2 ** 21, now - 9],
        ],
      },
      now + 2 ** 21,
    ],
  ])('counts %s', async (_, known, newest) => {
    expect(await find(known, 'down')).toEqual({ newest, warnings: [] });
  });
});

describe('chooseVersion', () => {
  it.each([
    [undefined, 5, now],
    [undefined, now + 7, now + 8],
    [6, 5, 6],
  ])('chooses for the wish %j, after %i, the version %i', (wanted, newest, expected) => {
    expect(chooseVersion(wanted, newest, 'web', now)).toBe(expected);
  });

  it('refuses a version that is not above the newest', () => {
    expect(() => chooseVersion(5, 5, 'web', now)).toThrow('version 5 is not above 5');
  });
});
