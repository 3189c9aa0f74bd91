import { runSync } from '../support/run/command.ts';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  applyDir,
  operator,
  outcomeOn,
  startSplitFleet,
  stateDir,
  submitManifest,
  whyNoUsers,
  writing,
  type ProductionNode,
  type SplitFleet,
} from '../support/split/fleet.ts';

const why = whyNoUsers();

let fleet: SplitFleet;
let node: ProductionNode;

/** A production node that has taken up an update of each kind of trace: outcome, log, run, torrent. */
beforeAll(async () => {
  if (why !== undefined) return;
  fleet = await startSplitFleet(1);
  [node] = fleet.nodes as [ProductionNode];
  const update = await submitManifest(node, 'default', writing('/root/done', 'done'));
  await fleet.waitFor(
    'the update is applied, and advance has seen it',
    () =>
      outcomeOn(node, update)?.state === 'APPLIED' &&
      node.machine.list(`${stateDir}/torrents`).length > 0,
  );
  await node.manager.disable();
});

afterAll(async () => {
  if (why === undefined) await fleet.stop();
});

/** The output of find(1) for the entries below some places that fit: mode, owner, group and path. */
async function find(places: string, ...tests: string[]): Promise<string[]> {
  const command = `find ${places} ${tests.join(' ')} -printf '%m %u:%g %p\\n' | sort`;
  const { status, stdout, stderr } = await node.machine.shell('root', command);
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  return stdout.split('\n').filter((line) => line !== '');
}

const everything = `${applyDir} ${stateDir} /etc/p2p-update /var/lib/p2p-update/files`;

/** True for transmission-daemon 3.00. */
function isOldDaemon(): boolean {
  const { stderr, stdout } = runSync(['transmission-daemon', '--version']);
  return `${stdout}${stderr}`.includes('transmission-daemon 3.');
}

describe.skipIf(why !== undefined)(`after a run${why === undefined ? '' : ` (${why})`}`, () => {
  it('other users can write markers only', async () => {
    expect(await find(everything, '! -type l -perm /022')).toEqual([
      `730 root:debian-transmission ${applyDir}/complete`,
    ]);
  });

  it('root owns all files of root, and p2p-update all of p2p-update', async () => {
    const apart = `-path ${applyDir}/complete -prune -o`;
    expect(await find(`${applyDir} /etc/p2p-update`, apart, '! -user root')).toEqual([]);
    expect(await find(stateDir, '! -user p2p-update', '-o ! -group p2p-update')).toEqual([]);
  });

  it("root alone can read staging, Puppet's logs and the record of its run", async () => {
    for (const name of ['staging', 'runs'])
      expect(await find(`${applyDir}/${name}`, '-maxdepth 0')).toEqual([
        `700 root:root ${applyDir}/${name}`,
      ]);
    const logs = await find(`${applyDir}/runs ${applyDir}/staging`, '-type f');
    expect(logs).toHaveLength(1);
    expect(await find(`${applyDir}/runs ${applyDir}/staging`, '-perm /077')).toEqual([]);
    const run = await find(applyDir, "-maxdepth 1 -name 'run*' -type f");
    expect(run).not.toEqual([]);
    for (const line of run) expect(line).toMatch(/^600 root:root /);
  });

  it('every user can read outcomes and the log of apply', async () => {
    const files = await find(`${applyDir}/outcomes ${applyDir}/events.log`, '-type f');
    expect(files.length).toBeGreaterThanOrEqual(2);
    for (const line of files) expect(line).toMatch(/^644 root:root /);
  });

  it('only its user, and operators by their group, can read the state', async () => {
    expect(await find(stateDir, '-perm /027')).toEqual([]);
    expect(await find(`${stateDir}/events.log`)).toEqual([
      `640 p2p-update:p2p-update ${stateDir}/events.log`,
    ]);
    const look = (user: string) => node.machine.shell(user, `cat ${stateDir}/events.log`);
    expect((await look(operator)).stdout).toContain('"accept"');
    expect((await look('debian-transmission')).status).not.toBe(0);
    expect((await look('nobody')).status).not.toBe(0);
  });

  it('the users that need secrets can read them', async () => {
    const owned = (mode: string, owner: string, file: string): [string, string] => [
      file,
      `${mode} ${owner} ${file}`,
    ];
    for (const [file, line] of [
      owned('640', 'root:p2p-update', '/etc/p2p-update/serf-rpc.key'),
      owned('640', 'root:p2p-update', '/etc/p2p-update/transmission.json'),
      owned('640', 'root:p2p-update', '/etc/serf/20-keys.json'),
      owned('600', `${operator}:root`, `/home/${operator}/release.pem`),
      // 4.1 writes it again by its own umask, 3.00 as it was.
      owned(
        isOldDaemon() ? '600' : '640',
        'debian-transmission:debian-transmission',
        '/etc/transmission-daemon/settings.json',
      ),
      owned('600', 'p2p-update:p2p-update', '/var/lib/serf/serf.snapshot'),
    ]) {
      expect(await find(file)).toEqual([line]);
      expect((await node.machine.shell('nobody', `cat ${file}`)).status).not.toBe(0);
    }
  });
});
