import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { makeAnnouncement, makeKeys, signAnnouncement } from '../support/fleet/announce.ts';
import { type LoneNode, makeLoneNode } from '../support/fleet/lone-node.ts';
import { type Outcome, runCommand } from '../support/fleet/operator.ts';
import { serfEnvironment } from '../support/fleet/serf-environment.ts';
import { repository } from '../support/run/repository.ts';
import { temporaryDirectory } from '../support/run/temporary.ts';
import { runSync } from '../support/run/command.ts';

const handler = join(repository, 'dist/handlers/status.cjs');
const now = Math.floor(Date.now() / 1000);
const day = 86_400;
const keys = makeKeys();

/** For a node that is not in the fleet: a freeze concerns announcements that are held, applied or not. */
function announcement(created: number): string {
  const fields = { version: created, created, expires: now + day, target: 'node=nobody' };
  return signAnnouncement(makeAnnouncement(fields), keys);
}

function askHandler(node: LoneNode): string {
  const query = { SERF_EVENT: 'query', SERF_QUERY_NAME: 'update-status', SERF_QUERY_LTIME: '3' };
  const env = { ...serfEnvironment(node.configFile), ...query };
  return runSync([handler], { env, input: 'summary\n' }).stdout;
}

/** A fleet of n1, which is the operator's, and n2; Serf's command is a stand-in, the handlers are real. */
function makeFleet(staleAfterSeconds: number | null) {
  const directory = temporaryDirectory();
  const command = join(directory, 'serf');
  writeFileSync(command, `#!/bin/sh\ncat '${directory}'/"$1".json\n`, { mode: 0o755 });
  const serf = { command, rpcAddress: 'x', rpcAuthFile: null, timeoutSeconds: 10 };
  const change = { staleAfterSeconds, serf: { ...serf, maxPayloadChars: 468 } };
  const nodes = ['n1', 'n2'].map((nodeName) => makeLoneNode({ ...change, nodeName }, keys));
  const members = ['n1', 'n2'].map((name) => ({
    name,
    addr: '192.0.2.1:7946',
    status: 'alive',
    tags: {},
  }));
  writeFileSync(join(directory, 'members.json'), JSON.stringify({ members }));
  const [first, second] = nodes as [LoneNode, LoneNode];
  const status = (...args: string[]): Promise<Outcome> => {
    const Responses = Object.fromEntries(
      nodes.map((node, i): [string, string] => [`n${i + 1}`, askHandler(node)]),
    );
    writeFileSync(join(directory, 'query.json'), JSON.stringify({ Responses }));
    return runCommand('status', args, { env: { P2P_UPDATE_CONFIG: first.configFile }, directory });
  };
  return { first, second, status };
}

describe('an attacker that withholds events from a node', () => {
  it('is found out: its newest announcement grows old, and status ends with 2', async () => {
    const { first, second, status } = makeFleet(7 * day);
    for (const node of [first, second])
      expect(node.send(announcement(now - 8 * day)).status).toBe(0);
    first.send(announcement(now - 2 * day));
    const frozen = await status();
    expect(frozen).toMatchObject({ status: 2, stderr: '' });
    expect(frozen.stdout).toMatch(
      /^fleet test-fleet: stale: n2: nothing newer came for too long$/m,
    );
    expect(frozen.stdout).toMatch(/, newest announcement 2 d ago$/m);
    expect(frozen.stdout).toMatch(/^stale +nothing newer came for too long\n +on n2: .* doctor$/m);
    expect(frozen.stdout).toMatch(
      /^pending +default: has not heard of \d+\n +on n2: .* reconcile$/m,
    );
    const { nodes } = JSON.parse((await status('--json')).stdout) as {
      nodes: { name: string; verdict: string; newestAnnouncement: string }[];
    };
    expect(nodes).toMatchObject([
      { name: 'n1', verdict: 'converged' },
      {
        name: 'n2',
        verdict: 'stale',
        newestAnnouncement: new Date((now - 8 * day) * 1000).toISOString(),
      },
    ]);
    second.send(announcement(now - 2 * day));
    expect(await status()).toMatchObject({ status: 0 });
  });

  it('is found out by a fleet that is cut off as a whole', async () => {
    const { first, second, status } = makeFleet(7 * day);
    for (const node of [first, second]) node.send(announcement(now - 8 * day));
    const frozen = await status();
    expect(frozen.status).toBe(2);
    expect(frozen.stdout).toMatch(
      /^fleet test-fleet: stale: the newest announcement is 8 d old, more than 7 d$/m,
    );
    for (const node of [first, second]) node.send(announcement(now));
    expect(await status()).toMatchObject({ status: 0 });
  });

  it('is not looked for where staleAfterSeconds is null', async () => {
    const { first, second, status } = makeFleet(null);
    for (const node of [first, second]) node.send(announcement(now - 300 * day));
    expect(await status()).toMatchObject({ status: 0 });
  });
});
