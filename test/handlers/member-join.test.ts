import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { writeCatchUp } from '../../lib/reconciler/catch-up/due.ts';
import { joinedFile } from '../../lib/state/layout.ts';
import { eventLogFile } from '../../lib/system/event-log.ts';
import { type LoneNode, makeLoneNode } from '../support/fleet/lone-node.ts';
import { serfEnvironment } from '../support/fleet/serf-environment.ts';
import { repository } from '../support/run/repository.ts';
import { runSync } from '../support/run/command.ts';

const handler = join(repository, 'dist/handlers/member-join.cjs');

/** Reports joined members to node-1, as Serf does; returns its line in events.log. */
function tell(node: LoneNode, names: readonly string[]): unknown {
  const { status, stderr } = runSync([handler], {
    env: { ...serfEnvironment(node.configFile), SERF_EVENT: 'member-join' },
    input: names.map((name, index) => `${name}\t192.0.2.${index + 1}\t\tbt=51413\n`).join(''),
  });
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  const [line, ...more] = readFileSync(eventLogFile(node.config.stateDir), 'utf8')
    .trimEnd()
    .split('\n');
  expect(more).toEqual([]);
  return JSON.parse(line ?? '');
}

describe('the member-join handler', () => {
  it.each<[string, string[], number, string, string]>([
    ['one other', ['node-2'], 0, 'ring', '1 joined'],
    ['itself and two others', ['node-2', 'node-1', 'node-3'], 0, 'ring', '2 joined'],
    ['itself alone', ['node-1'], 0, 'ignore', 'only this node itself joined'],
    ['one of a large fleet', ['node-2'], 500, 'ignore', '1 joined, who ask for themselves'],
  ])(
    'decides whether to ring when the members that joined are %s',
    (_, names, members, decision, reason) => {
      const node = makeLoneNode({ trigger: 'spool' });
      const { stateDir } = node.config;
      const record = { startedAt: 1, epoch: 1, left: 'nothing', refused: [] } as const;
      if (members > 0) writeCatchUp(stateDir, { ...record, refused: [], members });
      expect(tell(node, names)).toMatchObject({ handler: 'member-join', decision, reason });
      expect(existsSync(joinedFile(stateDir))).toBe(decision === 'ring');
    },
  );
});
