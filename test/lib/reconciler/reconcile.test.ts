import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it, vi } from 'vitest';
import { type Config, parseConfig } from '../../../lib/config.ts';
import { advance } from '../../../lib/reconciler/advance/advance.ts';
import { reconcile } from '../../../lib/reconciler/reconcile.ts';
import { advanceLock } from '../../../lib/state/layout.ts';
import { isMarked, markComplete } from '../../../lib/state/markers.ts';
import { readEvents } from '../../../lib/system/event-log.ts';
import { makeAnnouncement, makeKeys, signAnnouncement } from '../../support/fleet/announce.ts';
import { makeLoneNode } from '../../support/fleet/lone-node.ts';
import { temporaryDirectory } from '../../support/run/temporary.ts';

// As it is, but for one test, in which something happens while it is at work.
vi.mock(import('../../../lib/reconciler/advance/advance.ts'), async (original) => {
  const actual = await original();
  return { ...actual, advance: vi.fn(actual.advance) };
});

/** Time by which the process has become older than most, while its first task was under way. */
const leapMs = 26_000;

/** A Transmission that is down, and a command in Serf's place. */
function daemons(serf: string): Pick<Config, 'transmission' | 'serf'> {
  const closed = { transmission: { url: 'http://127.0.0.1:9/transmission/rpc' } };
  const config = parseConfig(JSON.stringify(closed), 'config');
  return {
    transmission: { ...config.transmission, credentialsFile: null },
    serf: { ...config.serf, command: serf },
  };
}

describe('a reconciler that a task keeps', () => {
  it.each<['spool' | 'spawn', boolean]>([
    // A path unit starts nothing while its service runs, and sees no change of that time later.
    ['spool', true],
    // The handler starts another process.
    ['spawn', false],
  ])('woken by %s, looks at a late fact: %s', async (trigger, looks) => {
    const serf = join(temporaryDirectory(), 'serf');
    writeFileSync(serf, '#!/bin/sh\nsleep 3\nexit 1\n', { mode: 0o755 });
    const keys = makeKeys();
    const node = makeLoneNode({ trigger, ...daemons(serf) }, keys);
    const originMs = Date.now();
    let leap = 0;
    const now = vi.spyOn(performance, 'now');
    now.mockImplementation(() => Date.now() - originMs + leap);
    try {
      // It ends with the error of the task.
      const end = reconcile(node.config, ['advance'], null, () => undefined).catch(() => undefined);
      await delay(500);
      leap = leapMs;
      node.plant(signAnnouncement(makeAnnouncement({}), keys));
      await end;
    } finally {
      now.mockRestore();
    }
    const reasons = readEvents(node.config.stateDir).map(({ reason }) => reason);
    expect(reasons.join('\n').includes('ECONNREFUSED')).toBe(looks);
  });
});

describe('a marker that comes while advance is at work, and that apply takes', () => {
  it.each([
    ['with content that is to be checked again', Buffer.from('not what was announced')],
    ['with content that is gone', undefined],
  ])('%s, has advance look again', async (_, content) => {
    const keys = makeKeys();
    const node = makeLoneNode({ trigger: 'spawn', ...daemons('false') }, keys);
    const payload = signAnnouncement(makeAnnouncement({}), keys);
    node.plant(payload);
    const { infoHash } = makeAnnouncement({});
    const mocked = vi.mocked(advance);
    mocked.mockReset().mockResolvedValue([]);
    mocked.mockImplementationOnce(() => {
      if (content === undefined) markComplete(node.config.applyDir, infoHash);
      else node.download(payload, content);
      return Promise.resolve([]);
    });
    // A run of Puppet has made this process old.
    const now = vi.spyOn(performance, 'now').mockReturnValue(3_600_000);
    try {
      await reconcile(node.config, ['advance', 'apply'], null, () => undefined).catch(
        () => undefined,
      );
    } finally {
      now.mockRestore();
    }
    expect(isMarked(node.config.applyDir, infoHash)).toBe(false);
    // Nothing else tells advance of it where no path unit watches, and no timer runs.
    expect(mocked.mock.calls.length).toBeGreaterThan(1);
  });
});

describe('a run while another process is at work', () => {
  const hold = (file: string): ChildProcess =>
    spawn('flock', [file, 'sh', '-c', 'echo held; exec sleep 60'], {
      stdio: ['ignore', 'pipe', 'ignore'],
      detached: true,
    });

  it.each([
    ['fails when it is to wait, and tells who is at it', 300],
    ['leaves the work to that one when it is not to wait', null],
  ])('%s', async (_, waitMs) => {
    const node = makeLoneNode({ trigger: 'spawn', ...daemons('false') }, makeKeys());
    const { stateDir } = node.config;
    vi.mocked(advance).mockReset().mockResolvedValue([]);
    await reconcile(node.config, ['advance'], null, () => undefined).catch(() => undefined);
    const holder = hold(advanceLock(stateDir));
    if (holder.stdout !== null) await once(holder.stdout, 'data');
    try {
      const end = reconcile(node.config, ['advance'], waitMs, () => undefined);
      if (waitMs === null) await end;
      else
        await expect(end).rejects.toMatchObject({
          code: 'try-later',
          message: expect.stringMatching(
            new RegExp(`^advance is at work already: process ${process.pid}, for \\d+ s$`),
          ) as string,
        });
    } finally {
      process.kill(-(holder.pid ?? 0), 'SIGKILL');
    }
    expect(vi.mocked(advance)).toHaveBeenCalledTimes(1);
    const [last] = readEvents(stateDir).slice(-1);
    expect(last?.reason).toMatch(
      waitMs === null ? /^another process is at work$/ : /at work already/,
    );
  });
});
