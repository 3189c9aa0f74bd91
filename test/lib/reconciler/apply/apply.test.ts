import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { makeApplySide } from '../../../support/fleet/apply-side.ts';
import { temporaryDirectory } from '../../../support/run/temporary.ts';

const now = Math.floor(Date.now() / 1000);

describe('Puppet that is ended from outside each time, as for want of memory', () => {
  it('is started again at ever longer intervals, and the update has no failed try', async () => {
    const directory = temporaryDirectory();
    const node = makeApplySide(directory);
    const runs = join(directory, 'runs');
    const puppet = (end: string): void => {
      const script = `#!/bin/sh\necho >>'${runs}'\n${end}\n`;
      writeFileSync(node.config.puppet.command, script, { mode: 0o755 });
    };
    const count = (): number => (existsSync(runs) ? readFileSync(runs).length : 0);
    puppet('kill -9 $$');
    const update = node.receive({ kind: 'manifest', name: 'a.pp' }, Buffer.from('notice("x")\n'));
    const due = [0, 20, 40, 60, 80, 140, 260, 500, 980, 1940, 3860, 7460];
    const startedAt: number[] = [];
    // A pass at each moment that is due, and 20 s before it.
    for (const second of [...due, ...due.map((at) => at - 20)].sort((a, b) => a - b)) {
      if (second < 0 || second === startedAt.at(-1)) continue;
      const before = count();
      const events = await node.apply(now + second);
      if (count() === before) continue;
      startedAt.push(second);
      expect(events.at(-1)).toMatchObject({
        decision: 'wait',
        reason: 'Puppet was ended from outside (SIGKILL, as the kernel does for want of memory)',
      });
      expect(node.outcomeOf(update)).toMatchObject({
        state: 'APPLYING',
        reason: 'Puppet was ended from outside (SIGKILL, as the kernel does for want of memory)',
        tries: 0,
      });
    }
    expect(startedAt).toEqual(due);
    puppet('exit 0');
    await node.apply(now + 11_060);
    expect(node.outcomeOf(update)?.state).toBe('APPLIED');
  });
});
