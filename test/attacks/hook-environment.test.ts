import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { hookFile } from '../../lib/config.ts';
import { rootsFiles } from '../support/split/attacker.ts';
import {
  applyDir,
  startSplitFleet,
  stateDir,
  whyNoUsers,
  type ProductionNode,
  type SplitFleet,
} from '../support/split/fleet.ts';
import { codeDir, systemPath } from '../support/split/node.ts';
import type { CommandResult } from '../support/run/command.ts';

const why = whyNoUsers();
const infoHash = 'ab'.repeat(20);
const complete = `${applyDir}/complete`;

let fleet: SplitFleet;
let node: ProductionNode;

beforeAll(async () => {
  if (why !== undefined) return;
  fleet = await startSplitFleet(1, false);
  [node] = fleet.nodes as [ProductionNode];
  // Its lock stays: without this first pass it would look like something that the hook has caused.
  await node.manager.start('p2p-update-apply.service');
});

afterAll(async () => {
  if (why === undefined) await fleet.stop();
});

/** The hook that set-up places, and the handler that does the same without units or cron. */
const hooks = [hookFile, `${codeDir}/dist/handlers/transmission-done.cjs`];

/** Runs a real hook as the daemon does, by hand. */
const runHook = (hook: string, variables: Record<string, string>): Promise<CommandResult> =>
  node.machine.runAs('debian-transmission', [hook], {
    noNewPrivileges: true,
    env: { PATH: systemPath, ...variables },
  });

/** All that the hook could leave anywhere, but for the markers. */
async function everything(): Promise<string> {
  const { stdout } = await node.machine.shell(
    'root',
    `find ${stateDir} /tmp /var/lib/transmission-daemon -printf '%p %y %m %U:%G %s %C@\\n' | sort`,
  );
  return `${await rootsFiles(node)}${stdout}`;
}

const hostile = {
  TR_APP_VERSION: '3.00\n',
  TR_TIME_LOCALTIME: '$(touch /tmp/time)',
  TR_TORRENT_ID: '1; touch /tmp/id',
  TR_TORRENT_DIR: '/etc/p2p-update/../../root',
  TR_TORRENT_NAME: '$(touch /tmp/name);`touch /tmp/name`\n| touch /tmp/name #',
  TR_TORRENT_LABELS: '-e require("fs").writeFileSync("/tmp/labels","")',
};

const suffix = why === undefined ? '' : ` (${why})`;
describe.skipIf(why !== undefined).each(hooks)(`forged TR_* of %s${suffix}`, (hook) => {
  it('leaves one empty marker, named by the hash, and nothing else', async () => {
    const before = await everything();
    const run = await runHook(hook, { ...hostile, TR_TORRENT_HASH: infoHash });
    expect(run).toEqual({ status: 0, stdout: '', stderr: '' });
    expect(node.machine.list(complete)).toEqual([infoHash]);
    expect(node.machine.read(`${complete}/${infoHash}`)).toBe('');
    expect(await everything()).toBe(before);
  });

  it('rings for an update that root knows by itself, or for none', async () => {
    const before = await everything();
    // No announcement has this hash; the path and the name would lead to files of root.
    const { status, stderr } = await node.manager.start('p2p-update-apply.service');
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(node.machine.list(complete)).toEqual([]);
    expect(await everything()).toBe(before);
  });

  it.each([
    ['nothing', undefined],
    ['no text', ''],
    ['a way out of the directory', '../../../../etc/cron.d/forty-characters-long'],
    ['a path', `/tmp/${infoHash}`],
    ['capitals', infoHash.toUpperCase()],
    ['a digit too many', `${infoHash}0`],
    ['a digit too few', infoHash.slice(1)],
    ['a line more', `${infoHash}\n`],
    ['two lines', `${infoHash}\n${infoHash}`],
    ['a command', '$(touch /tmp/hash)'],
    ['an info hash of version 2', '1220'.padEnd(68, 'a')],
    ['100,000 digits', 'a'.repeat(100_000)],
  ])('is refused with %s as the hash', async (_, hash) => {
    const before = await everything();
    for (const attempt of [1, 2]) {
      const run = await runHook(hook, {
        ...hostile,
        ...(hash === undefined ? {} : { TR_TORRENT_HASH: hash }),
      });
      expect({ attempt, ...run }).toMatchObject({ attempt, status: 64, stdout: '' });
      expect(run.stderr).toMatch(/^transmission-done: error: .+\ntransmission-done: hint: .+\n$/);
    }
    expect(node.machine.list(complete)).toEqual([]);
    expect(await everything()).toBe(before);
  });
});

describe.skipIf(why !== undefined)(`a unit that denies executable memory${suffix}`, () => {
  it("runs set-up's hook, and no Node", async () => {
    const denied = { noNewPrivileges: true, memoryDenyWriteExecute: true };
    const as = (command: string[]): Promise<CommandResult> =>
      node.machine.runAs('debian-transmission', command, {
        ...denied,
        env: { PATH: systemPath, TR_TORRENT_HASH: infoHash },
      });
    const noNode = await as([process.execPath, '-e', '']);
    // A kernel before 6.3 cannot deny it.
    if (noNode.status === 0) return;
    expect(await as([hookFile])).toEqual({ status: 0, stdout: '', stderr: '' });
    expect(node.machine.list(complete)).toEqual([infoHash]);
  });
});
