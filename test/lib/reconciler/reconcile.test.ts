import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it, vi } from 'vitest';
import { parseConfig } from '../../../lib/config.ts';
import { reconcile } from '../../../lib/reconciler/reconcile.ts';
import { readEvents } from '../../../lib/system/event-log.ts';
import { makeAnnouncement, makeKeys, signAnnouncement } from '../../support/fleet/announce.ts';
import { makeLoneNode } from '../../support/fleet/lone-node.ts';
import { temporaryDirectory } from '../../support/run/temporary.ts';

/** Time by which the process has become older than most, while its first task was under way. */
const leapMs = 26_000;

describe('a reconciler that a task keeps', () => {
  it.each<['spool' | 'spawn', boolean]>([
    // A path unit starts nothing while its service runs, and sees no change of that time later.
    ['spool', true],
    // The handler starts another process.
    ['spawn', false],
  ])('woken by %s, looks at a late fact: %s', async (trigger, looks) => {
    const serf = join(temporaryDirectory(), 'serf');
    writeFileSync(serf, '#!/bin/sh\nsleep 3\nexit 1\n', { mode: 0o755 });
    const closed = { transmission: { url: 'http://127.0.0.1:9/transmission/rpc' } };
    const { transmission, serf: serfDefaults } = parseConfig(JSON.stringify(closed), 'config');
    const keys = makeKeys();
    const change = {
      trigger,
      transmission: { ...transmission, credentialsFile: null },
      serf: { ...serfDefaults, command: serf },
    };
    const node = makeLoneNode(change, keys);
    const originMs = Date.now();
    let leap = 0;
    const now = vi.spyOn(performance, 'now');
    now.mockImplementation(() => Date.now() - originMs + leap);
    try {
      // It ends with the error of the task.
      const end = reconcile(node.config, ['advance'], () => undefined).catch(() => undefined);
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
