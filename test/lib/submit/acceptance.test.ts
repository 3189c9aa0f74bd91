import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { keepAccepted } from '../../../lib/state/facts.ts';
import { requireAcceptable, surveyFleet } from '../../../lib/submit/acceptance.ts';
import { askBySerf } from '../../../lib/submit/known-updates.ts';
import type { Announcement } from '../../../lib/announcement/fields.ts';
import { makeAnnouncement, makeKeys, signAnnouncement } from '../../support/fleet/announce.ts';
import { makeApplySide } from '../../support/fleet/apply-side.ts';
import { temporaryDirectory } from '../../support/run/temporary.ts';

const now = Math.floor(Date.now() / 1000);
const day = 86_400;

interface Fleet {
  /** Clocks of the members, in seconds from now; n1 is this node. */
  clocks?: Record<string, number | string>;
  /** Creation of an announcement that this node holds. */
  held?: number;
  isTrusted?: boolean;
}

/** Whether an announcement made by the clock `at` may be signed. */
async function judge(at: number, fleet: Fleet, change: Partial<Announcement> = {}) {
  const directory = temporaryDirectory();
  const keys = makeKeys();
  const { config } = makeApplySide(directory, { stateDir: join(directory, 'state') }, keys);
  if (fleet.held !== undefined) {
    const id = { channel: 'default', version: fleet.held };
    const made = makeAnnouncement({ ...id, created: fleet.held, expires: fleet.held + day });
    keepAccepted(config.stateDir, id, { payload: signAnnouncement(made, keys), acceptedAt: '' });
  }
  const clocks = Object.entries(fleet.clocks ?? {}).map(([name, offset]): [string, string] => [
    name,
    typeof offset === 'string' ? offset : String(now + offset),
  ]);
  const serf = {
    query: (_: string, request: string) =>
      Promise.resolve(new Map(request === 'clock' ? clocks : [])),
    selfName: () => Promise.resolve('n1'),
  };
  const asked = askBySerf(serf, () => undefined, fleet.isTrusted);
  // Answers tell the difference to the real clock: `at` is what this machine believes it is.
  const offsets = {
    ...asked,
    clockOffsets: async () => (await asked.clockOffsets()).map((o) => o + now - at),
  };
  const survey = await surveyFleet('web', config, offsets, at);
  const announcement = makeAnnouncement({
    ...{ channel: 'web', version: at, created: at, expires: at + 365 * day },
    ...change,
  });
  try {
    requireAcceptable(announcement, survey, config, at);
    return 'signed';
  } catch (error) {
    return (error as Error).message;
  }
}

describe('requireAcceptable', () => {
  it.each<[string, number, Fleet]>([
    ['whose clock nobody contradicts', now, {}],
    ['whose clock is that of the others', now, { clocks: { n2: 0, n3: 599 } }],
    ['whose own node alone answers', now + 400 * day, { clocks: { n1: 0 } }],
    ['when one of three other members is wrong', now, { clocks: { n2: 0, n3: 400 * day, n4: 1 } }],
    ['when the others answer rubbish', now, { clocks: { n2: 'x', n3: '-5' } }],
    [
      'when the others agree, and one held announcement is of the future',
      now,
      { clocks: { n2: 0 }, held: now + 400 * day },
    ],
    [
      'whose clock the operator vouches for',
      now,
      { clocks: { n2: day }, held: now + day, isTrusted: true },
    ],
  ])('signs on a machine %s', async (_, at, fleet) => {
    expect(await judge(at, fleet)).toBe('signed');
  });

  it.each<[string, number, Fleet, RegExp]>([
    [
      '400 days ahead',
      now + 400 * day,
      { clocks: { n1: 400 * day, n2: 0 } },
      /by that of another member it is/,
    ],
    [
      '500 days behind',
      now - 500 * day,
      { clocks: { n2: 0, n3: 1 } },
      /by those of 2 other members it is/,
    ],
    ['eleven minutes behind', now - 660, { clocks: { n2: 0 } }, /by that of another member/],
    [
      'behind the newest announcement held',
      now - day,
      { held: now - 60 },
      /by the date of default@/,
    ],
  ])(
    'refuses when the clock is %s, and tells the time of the fleet',
    async (_, at, fleet, message) => {
      const said = await judge(at, fleet);
      expect(said).toMatch(message);
      expect(said).toMatch(
        new RegExp(
          `says ${new Date(at * 1000).toISOString()}; .*${new Date((fleet.held ?? now) * 1000).toISOString().slice(0, 15)}`,
        ),
      );
    },
  );

  it.each<[string, Partial<Announcement>, RegExp]>([
    [
      'has expired',
      { expires: now - 1, created: now - 9 },
      /nodes would refuse web@\d+: it expired at/,
    ],
    ['is of the future', { created: now + 700 }, /700 s in the future/],
    ['leaves no room for a next one', { version: now + 2 ** 20 + 1 }, /more than 1048576 above/],
  ])('refuses an announcement that %s', async (_, change, message) => {
    expect(await judge(now, {}, change)).toMatch(message);
  });
});
