import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { rootsFiles } from '../support/split/attacker.ts';
import {
  applyDir,
  operator,
  program,
  type ProductionNode,
  type SplitFleet,
  startSplitFleet,
  stateDir,
  submitManifest,
  untilApplied,
  whyNoUsers,
  writing,
} from '../support/split/fleet.ts';
import { codeDir } from '../support/split/node.ts';
import { ProcessSampler } from './split-sampler.ts';

const why = whyNoUsers();
const apply = 'p2p-update-apply.service';
const units = ['p2p-update-advance', 'p2p-update-apply'];

let fleet: SplitFleet;
let sampler: ProcessSampler;
let first: ProductionNode;
let other: ProductionNode;

beforeAll(async () => {
  if (why !== undefined) return;
  fleet = await startSplitFleet(2);
  [first, other] = fleet.nodes as [ProductionNode, ProductionNode];
  sampler = new ProcessSampler([
    ...[
      'update.cjs',
      '/etc/p2p-update/transmission-done',
      'p2p-update.cjs reconcile',
      'p2p-update.cjs apply',
    ],
    ...['puppet', 'serf', 'transmission-daemon'],
  ]);
});

afterAll(async () => {
  if (why !== undefined) return;
  sampler.stop();
  await fleet.stop();
});

/** Runs apply once as its unit says; it must not hang. */
const runApply = async ({ manager }: ProductionNode) => {
  const run = await manager.start(apply);
  return { status: run.status, stderr: run.stderr };
};

const outcomesOf = ({ machine }: ProductionNode, channel: string): string[] =>
  machine.list(`${applyDir}/outcomes`).filter((name) => name.startsWith(`${channel}@`));

/** A failure must be for want of rights: root finds the file there. */
async function expectDenied(script: string, can: (script: string) => Promise<boolean>) {
  expect({ script, can: await can(script) }).toEqual({ script, can: false });
  if (/^(ls|cat) /.test(script)) expect((await other.machine.shell('root', script)).status).toBe(0);
}

describe.skipIf(why !== undefined)(`three users${why === undefined ? '' : ` (${why})`}`, () => {
  it('an update of an operator is applied by root on every node', async () => {
    const update = await submitManifest(first, 'first', writing('/etc/first', 'one'));
    await untilApplied(fleet, update);
    for (const { machine } of fleet.nodes) expect(machine.read('/etc/first')).toBe('one');
  });

  it('each process ran as the user that it should', async () => {
    // A process that lives for some 50 ms only may have been missed.
    await fleet.waitFor('each program was seen', async () => {
      const programs = ['update.cjs', 'p2p-update.cjs reconcile'];
      if (programs.every((program) => sampler.of(program).length > 0)) return true;
      await untilApplied(
        fleet,
        await submitManifest(first, 'first', writing('/etc/first', String(Date.now()))),
      );
      return false;
    });
    const account = (name: string): { uid: number; gid: number } => first.machine.account(name);
    const [ours, daemon] = [account('p2p-update'), account('debian-transmission')];
    const four = (id: number): string => `${id} ${id} ${id} ${id}`;
    const sorted = (...ids: number[]): string => ids.sort((a, b) => a - b).join(' ');
    const none = '0'.repeat(16);
    const asOurs = {
      uids: four(ours.uid),
      gids: four(ours.gid),
      groups: sorted(ours.gid, daemon.gid),
      capabilities: none,
    };
    const asDaemon = {
      uids: four(daemon.uid),
      gids: four(daemon.gid),
      groups: String(daemon.gid),
      capabilities: none,
      noNewPrivileges: true,
    };
    expect(sampler.of('update.cjs')).toEqual([{ ...asOurs, noNewPrivileges: true }]);
    expect(sampler.of('p2p-update.cjs reconcile')).toEqual([{ ...asOurs, noNewPrivileges: true }]);
    // The hook lives for some milliseconds, in which it is not always seen.
    const hooks = sampler.of('/etc/p2p-update/transmission-done');
    expect(hooks).toEqual(hooks.map(() => asDaemon));
    expect(sampler.of('transmission-daemon')).toEqual([asDaemon]);
    expect(sampler.of('p2p-update.cjs apply')).toMatchObject([{ uids: four(0), gids: four(0) }]);
    // The operator's Puppet has looked at the manifest's syntax.
    const alice = four(account(operator).uid);
    const puppets = sampler.of('puppet').map(({ uids }) => uids);
    expect(puppets.sort()).toEqual([four(0), alice]);
    const agents = sampler.of('serf').map(({ uids }) => uids);
    expect(new Set(agents)).toEqual(new Set([four(ours.uid), alice]));
  });

  it('no unit has failed or printed anything', () => {
    for (const { manager } of fleet.nodes) {
      expect(manager.runs.length).toBeGreaterThan(0);
      expect(manager.runs.filter(({ status, stderr }) => status !== 0 || stderr !== '')).toEqual(
        [],
      );
    }
  });

  it('the other users can read the outcome, and root alone can write it', async () => {
    const file = `${applyDir}/outcomes/${outcomesOf(other, 'first')[0] ?? ''}`;
    for (const user of ['p2p-update', 'debian-transmission', operator]) {
      expect(await other.machine.shell(user, `cat '${file}'`)).toMatchObject({
        status: 0,
        stdout: expect.stringContaining('"APPLIED"') as string,
      });
      expect((await other.machine.shell(user, `echo >> '${file}'`)).status).not.toBe(0);
      expect((await other.machine.shell(user, `mv '${file}' '${file}.x'`)).status).not.toBe(0);
      const log = `${applyDir}/events.log`;
      await fleet.waitFor(`${user} reads its line in the log`, async () =>
        (await other.machine.shell(user, `cat ${log}`)).stdout.includes('"applied"'),
      );
    }
  });

  it("Transmission's user can make a marker and no other file", async () => {
    const user = 'debian-transmission';
    const options = { noNewPrivileges: true };
    const marker = `${applyDir}/complete/${'ab'.repeat(20)}`;
    const can = async (script: string): Promise<boolean> =>
      (await other.machine.shell(user, script, options)).status === 0;
    expect(await can(`: > ${marker} && test -e ${marker}`)).toBe(true);
    for (const script of [
      `ls ${applyDir}/complete`,
      `ls ${stateDir}`,
      `echo >> ${stateDir}/events.log`,
      `: > ${stateDir}/announcements/x@0000000000000001`,
      ...['', '/outcomes', '/keysets', '/modules', '/staging', '/runs'].map(
        (name) => `: > ${applyDir}${name}/x`,
      ),
      `ls ${applyDir}/staging`,
      `ls ${applyDir}/runs`,
      `cat /home/${operator}/release.pem`,
      'cat /etc/p2p-update/serf-rpc.key',
      'cat /etc/p2p-update/transmission.json',
      'cat /etc/serf/20-keys.json',
      'cat /var/lib/serf/serf.snapshot',
      'echo >> /etc/p2p-update/config.json',
      `echo >> ${codeDir}/dist/handlers/transmission-done.cjs`,
    ])
      await expectDenied(script, can);
  });

  it("p2p-update's user can write nowhere in root's directories but a marker", async () => {
    const can = async (script: string): Promise<boolean> =>
      (await other.machine.shell('p2p-update', script)).status === 0;
    expect(await can(`: > ${applyDir}/complete/${'cd'.repeat(20)}`)).toBe(true);
    for (const script of [
      `ls ${applyDir}/complete`,
      ...['', '/outcomes', '/keysets', '/modules', '/staging', '/runs'].map(
        (name) => `: > ${applyDir}${name}/x`,
      ),
      `echo >> ${applyDir}/events.log`,
      `mv ${applyDir}/complete ${applyDir}/gone`,
      `mv ${stateDir} ${stateDir}.gone`,
      `ls ${applyDir}/staging`,
      `ls ${applyDir}/runs`,
      `cat /home/${operator}/release.pem`,
      ...['config.json', 'keyset.txt', 'serf-rpc.key', 'transmission.json', 'x'].map(
        (name) => `echo >> /etc/p2p-update/${name}`,
      ),
      'echo >> /etc/serf/20-keys.json',
      'echo >> /etc/transmission-daemon/settings.json',
      `echo >> ${codeDir}/dist/p2p-update.cjs`,
      `echo >> ${codeDir}/dist/commands/reconcile.cjs`,
      `: > ${codeDir}/dist/commands/x`,
      `: > /var/lib/p2p-update/files/x`,
    ])
      await expectDenied(script, can);
  });

  it('a user who is no operator is told the group that he lacks, by every command that needs it', async () => {
    const user = 'nobody';
    const hint = `log in again after this, as root: adduser ${user} p2p-update`;
    for (const args of [
      ['submit', '/etc/hostname'],
      ['submit', '--withdraw', 'first'],
      ['status'],
      ['log'],
      ['retire', 'n9'],
      ['invite'],
      ['keys', 'send', '/etc/hostname'],
    ])
      expect([args, await first.machine.runAs(user, [program, ...args])]).toMatchObject([
        args,
        {
          status: 78,
          stdout: '',
          stderr: `${args[0] ?? ''}: error: ${user} is not in the group p2p-update, as operators of this node are\n${args[0] ?? ''}: hint: ${hint}\n`,
        },
      ]);
    const doctor = await first.machine.runAs(user, [program, 'doctor']);
    expect(doctor.stdout).toMatch(
      /^FAIL +this user +nobody is not in .*: adduser nobody p2p-update$/m,
    );
    // The keys are public.
    expect(await first.machine.runAs(user, [program, 'keys', 'list'])).toMatchObject({ status: 0 });
  });

  it('apply refuses files that others could have changed, and goes on once that is corrected', async () => {
    await other.manager.disable();
    const shell = async (script: string): Promise<void> => {
      expect(await other.machine.shell('root', script)).toMatchObject({ status: 0, stderr: '' });
    };
    const before = await rootsFiles(other);
    for (const [spoil, repair] of [
      ['chmod 666 /etc/p2p-update/config.json', 'chmod 644 /etc/p2p-update/config.json'],
      ['chown p2p-update /etc/p2p-update', 'chown root /etc/p2p-update'],
      ['chmod 664 /etc/p2p-update/keyset.txt', 'chmod 644 /etc/p2p-update/keyset.txt'],
      [`chmod 777 ${applyDir}`, `chmod 755 ${applyDir}`],
      [`chmod 775 ${applyDir}/outcomes`, `chmod 755 ${applyDir}/outcomes`],
      [`chmod 1777 ${applyDir}/keysets`, `chmod 755 ${applyDir}/keysets`],
      [`chown p2p-update ${applyDir}/modules`, `chown root ${applyDir}/modules`],
      [`chmod 777 ${applyDir}/staging`, `chmod 700 ${applyDir}/staging`],
      ['chmod 777 /var/lib/p2p-update/files', 'chmod 755 /var/lib/p2p-update/files'],
      ['chmod 777 /var/lib/p2p-update', 'chmod 755 /var/lib/p2p-update'],
      ['chmod 775 /etc/puppet', 'chmod 755 /etc/puppet'],
      [`chmod 775 ${codeDir}/dist`, `chmod 755 ${codeDir}/dist`],
      [`chown p2p-update ${codeDir}/dist/commands`, `chown root ${codeDir}/dist/commands`],
      [
        `chmod 757 ${codeDir}/dist/commands/reconcile.cjs`,
        `chmod 755 ${codeDir}/dist/commands/reconcile.cjs`,
      ],
      [`chmod 757 ${codeDir}/dist/p2p-update.cjs`, `chmod 755 ${codeDir}/dist/p2p-update.cjs`],
    ] as const) {
      await shell(spoil);
      const refused = await runApply(other);
      await shell(repair);
      expect({ spoil, ...refused }).toMatchObject({ spoil, status: 78 });
      expect(refused.stderr).toMatch(/^apply: error: .+\napply: hint: .+\n$/);
    }
    expect(await runApply(other)).toEqual({ status: 0, stderr: '' });
    const names = (tree: string): string[] =>
      tree.split('\n').map((line) => line.replace(/ [\d.]+ *$/, ''));
    expect(names(await rootsFiles(other))).toEqual(names(before));
    for (const name of units) other.manager.enable(name);
  });
});
