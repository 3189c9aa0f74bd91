import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { UpdateError } from '../../../lib/errors.ts';
import { askBySerf, chooseVersion, findNewest } from '../../../lib/submit/known-updates.ts';
import { keepAccepted } from '../../../lib/state/facts.ts';
import { temporaryDirectory } from '../../support/run/temporary.ts';

const now = 1_800_000_000;

/** Finds the newest version, and the warnings, for a version known here and these answers of members. */
async function find(here: number | undefined, answers: Record<string, string> | 'down') {
  const directory = temporaryDirectory();
  const config = { stateDir: join(directory, 'state'), publishDir: join(directory, 'publish') };
  mkdirSync(config.stateDir);
  if (here !== undefined)
    keepAccepted(
      config.stateDir,
      { channel: 'web', version: here },
      { payload: '', acceptedAt: '' },
    );
  const warnings: string[] = [];
  const queries: string[] = [];
  const serf = {
    query(name: string, request: string) {
      queries.push(`${name}: ${request}`);
      if (answers !== 'down') return Promise.resolve(new Map(Object.entries(answers)));
      return Promise.reject(new UpdateError('unavailable', 'Serf is down', { hint: 'start it' }));
    },
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
    expect(await find(here, answers)).toEqual({ newest, warnings: [] });
  });

  it('ignores a version that leaves no room for a next one, and warns of it', async () => {
    const most = now + 2 ** 20 - 600;
    expect((await find(5, { n1: String(most) })).newest).toBe(most);
    const { newest, warnings } = await find(5, { 'n\n1': String(most + 1), n2: '6' });
    expect(newest).toBe(6);
    expect(warnings).toEqual([`n?1 says that ${most + 1} is the newest of web: ignored`]);
    // A version that is known here was accepted, so it counts.
    expect((await find(now + 2 ** 20, { n1: String(most + 1) })).newest).toBe(now + 2 ** 20);
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
