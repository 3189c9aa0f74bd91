import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { hookFile } from '../../lib/config.ts';
import type { Check, CheckVerdict } from '../../lib/health/check.ts';
import {
  applyDir,
  operator,
  type ProductionNode,
  setUp,
  type SplitFleet,
  startSplitFleet,
  stateDir,
  whyNoUsers,
} from '../support/split/fleet.ts';
import { codeDir, systemPath } from '../support/split/node.ts';

const why = whyNoUsers();
const program = `${codeDir}/dist/p2p-update.cjs`;
const hook = hookFile;
const rpcKey = '/etc/p2p-update/serf-rpc.key';

let fleet: SplitFleet;
let node: ProductionNode;

beforeAll(async () => {
  if (why !== undefined) return;
  fleet = await startSplitFleet(2);
  node = fleet.nodes[0] as ProductionNode;
});

afterAll(async () => {
  if (why !== undefined) return;
  await fleet.stop();
});

async function examine(user: string, env: Record<string, string> = {}) {
  const result = await node.machine.runAs(user, [program, 'doctor', '--json'], { env });
  expect(result.stderr).toBe('');
  const { checks } = JSON.parse(result.stdout) as { checks: Check[] };
  const ids = (...verdicts: CheckVerdict[]): string[] =>
    checks.filter(({ verdict }) => verdicts.includes(verdict)).map(({ id }) => id);
  const find = (id: string) => checks.find((check) => check.id === id);
  return { status: result.status, ids, find };
}

async function root(script: string): Promise<void> {
  expect(await node.machine.shell('root', script)).toMatchObject({ status: 0, stderr: '' });
}

describe.skipIf(why !== undefined)(
  `doctor with three users${why === undefined ? '' : ` (${why})`}`,
  () => {
    it('has nothing but the missing systemd to tell of a node that was set up by the guides', async () => {
      const { status, ids, find } = await examine('root');
      expect(ids('skipped', 'fail')).toEqual([]);
      expect(ids('warn')).toEqual(['wakers']);
      expect(find('wakers')?.what).toMatch(/^systemd does not run here/);
      expect(find('transmission-hook-run')?.what).toBe("runs as the daemon's user");
      expect(status).toBe(1);
    });

    it('says to an operator which checks need root, and fails none of them', async () => {
      const { ids, find } = await examine(operator);
      expect(ids('fail')).toEqual([]);
      for (const id of ids('skipped')) expect(find(id)?.what).toMatch(/^needs root/);
      expect(ids('skipped')).toContain('transmission-hook-run');
    });

    it.each<[string, string, string, string, RegExp, RegExp]>([
      [
        'the RPC key is closed to the user of the handlers',
        `chown root:root ${rpcKey}; chmod 600 ${rpcKey}`,
        `chown root:p2p-update ${rpcKey}; chmod 640 ${rpcKey}`,
        'serf-rpc-key',
        /cannot be read by p2p-update/,
        /^chown root:p2p-update \/etc\/p2p-update\/serf-rpc\.key$/,
      ],
      [
        "the markers' directory has another group",
        `chown root:root ${applyDir}/complete`,
        `chown root:debian-transmission ${applyDir}/complete`,
        'places',
        /complete is 0:0 0730, not root:debian-transmission 0730$/,
        / setup$/,
      ],
      [
        'the state is closed to its owner',
        `chmod 500 ${stateDir}/updates`,
        `chmod 750 ${stateDir}/updates`,
        'places',
        /updates is \d+:\d+ 0500, not p2p-update:p2p-update 0750$/,
        / setup$/,
      ],
      [
        'root has left files in the state',
        `touch ${stateDir}/updates/x`,
        `rm ${stateDir}/updates/x`,
        'state-files',
        /^files of other users in/,
        /^chown -R --no-dereference p2p-update: \/var\/lib\/p2p-update\/state$/,
      ],
      [
        'others can change what root runs Puppet on',
        'chmod 777 /etc/puppet',
        'chmod 755 /etc/puppet',
        'root-paths',
        /^\/etc\/puppet can be written by others/,
        /^chmod go-w \/etc\/puppet$/,
      ],
      [
        "the hook is closed to Transmission's user",
        `chmod 700 ${hook}`,
        `chmod 755 ${hook}`,
        'transmission-hook-run',
        /cannot be run by the daemon's user \(exit status 126\)$/,
        /^chmod a\+rx /,
      ],
      [
        'p2p-update is not in the group of Transmission',
        'gpasswd -d p2p-update debian-transmission >/dev/null',
        'adduser --quiet p2p-update debian-transmission',
        'transmission-directory',
        /^p2p-update is not in the group debian-transmission$/,
        /^adduser p2p-update debian-transmission$/,
      ],
    ])('finds that %s', async (_, spoil, repair, id, what, fix) => {
      await root(spoil);
      const { status, ids, find } = await examine('root');
      await root(repair);
      expect(ids('fail')).toEqual([id]);
      expect(find(id)?.what).toMatch(what);
      expect(find(id)?.fix).toContainEqual(expect.stringMatching(fix));
      expect(status).toBe(2);
    });

    it('has the same finding in its own words as setup has in its list of what is left', async () => {
      await root('sed -i s/"10[.0-9]*"/"node-1.example.net"/ /etc/serf/10-p2p-update.json');
      const { find } = await examine('root');
      const left = await setUp(node.machine, '--systemd');
      expect(left).toContain(find('serf-join')?.what ?? 'no check');
    });
  },
);

describe.skipIf(why !== undefined)('where systemd runs (a stand-in tells its states)', () => {
  const bin = '/tmp/bin';
  const env = { PATH: `${bin}:${systemPath}` };
  const state = (active: string, sub: string, restarts: number): string =>
    [
      ...['LoadState=loaded', `ActiveState=${active}`, `SubState=${sub}`],
      ...['UnitFileState=enabled', `NRestarts=${restarts}`],
    ].join('\n');
  const sound = state('active', 'running', 0);

  /** A systemctl that shows `serf` for the agent, and a systemd-run that does what `runner` says. */
  function standIn(serf: string, runner: string): void {
    const { machine } = node;
    mkdirSync(machine.at('/run/systemd/system'), { recursive: true });
    mkdirSync(machine.at(bin), { recursive: true });
    const write = (name: string, text: string): void => {
      writeFileSync(machine.at(`${bin}/${name}`), `#!/bin/sh\n${text}\n`);
      chmodSync(machine.at(`${bin}/${name}`), 0o755);
    };
    write(
      'systemctl',
      `case "$*" in
*MemoryDenyWriteExecute*) printf 'User=debian-transmission\\nMemoryDenyWriteExecute=yes\\n'; exit ;;
esac
for unit in "$@"; do case "$unit" in
serf.service) printf 'Id=%s\\n%s\\n\\n' "$unit" '${serf}' ;;
*.path | *.timer | *.service) printf 'Id=%s\\n%s\\n\\n' "$unit" '${sound}' ;;
esac; done`,
    );
    write('systemd-run', `printf '%s\\n' "$@" > /tmp/systemd-run\n${runner}`);
    write('journalctl', 'exit 1');
  }

  it('runs the hook under the restrictions of the unit', async () => {
    standIn(sound, 'exit 64');
    const { ids, find } = await examine('root', env);
    expect(find('transmission-hook-run')?.what).toMatch(/^runs under the restrictions of/);
    expect(find('wakers')?.what).toBe('4 active and enabled');
    expect(ids('warn', 'fail', 'skipped')).toEqual(['serf-join']);
    const words = node.machine.read('/tmp/systemd-run').split('\n');
    expect(words).toContain('--property=MemoryDenyWriteExecute=yes');
    expect(words).toContain('--property=User=debian-transmission');
    expect(words).toContain(hook);
  });

  it('names the setting under which Node ends by a signal', async () => {
    standIn(sound, 'exit 133');
    const { find } = await examine('root', env);
    expect(find('transmission-hook-run')).toMatchObject({ verdict: 'fail' });
    expect(find('transmission-hook-run')?.what).toMatch(/signal 5 .* MemoryDenyWriteExecute=true/);
  });

  it('finds an agent in a restart loop, as status does', async () => {
    standIn(state('activating', 'auto-restart', 41), 'exit 64');
    const { find } = await examine('root', env);
    const text = "Serf's agent ends and is started again and again (41 times so far)";
    expect(find('serf-agent')).toMatchObject({ verdict: 'fail', what: text });
    await node.manager.killDaemon('serf.service');
    const status = await node.machine.runAs(operator, [program, 'status'], { env });
    expect(status.status).toBe(69);
    expect(status.stderr).toContain(`status: error: ${text}`);
    expect(status.stderr).toContain('status: hint: journalctl -u serf -n 20');
  });
});
