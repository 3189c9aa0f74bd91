import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  applyDir,
  outcomeOn,
  type ProductionNode,
  setUp,
  type SplitFleet,
  startSplitFleet,
  stateDir,
  submitManifest,
  untilApplied,
  whyNoUsers,
  writing,
} from '../support/split/fleet.ts';
import { codeDir } from '../support/split/node.ts';
import { readCronFile, runCronJob } from './split-cron.ts';

const why = whyNoUsers();
const units = ['p2p-update-advance', 'p2p-update-apply'];

let fleet: SplitFleet;
let first: ProductionNode;
let other: ProductionNode;

beforeAll(async () => {
  if (why !== undefined) return;
  fleet = await startSplitFleet(2);
  [first, other] = fleet.nodes as [ProductionNode, ProductionNode];
});

afterAll(async () => {
  if (why === undefined) await fleet.stop();
});

describe.skipIf(why !== undefined)(
  `the triggers of a node${why === undefined ? '' : ` (${why})`}`,
  () => {
    it('an apply outlives a restart of Serf and of Transmission', async () => {
      const log = '/root/once';
      const command = `/bin/sh -c 'until [ -e /root/go ]; do sleep 0.1; done; echo run >> ${log}'`;
      const update = await submitManifest(first, 'restart', `exec { "${command}": }\n`);
      await fleet.waitFor(
        'Puppet runs on the other node',
        () => outcomeOn(other, update)?.state === 'APPLYING',
      );
      await other.manager.killDaemon('serf.service');
      await other.manager.killDaemon('transmission-daemon.service');
      for (const { machine } of fleet.nodes) await machine.shell('root', 'touch /root/go');
      await untilApplied(fleet, update);
      expect(other.machine.read(log)).toBe('run\n');
      const ends = (): string[] =>
        other.machine
          .read(`${applyDir}/events.log`)
          .split('\n')
          .filter((line) => line.includes('"restart"') && line.includes('"applied"'));
      // The line follows the record.
      await fleet.waitFor('its end is logged', () => ends().length > 0);
      expect(ends()).toHaveLength(1);
      await other.manager.startDaemon('serf.service', 7373);
      await other.manager.startDaemon('transmission-daemon.service', 9091);
      await untilApplied(
        fleet,
        await submitManifest(first, 'restart', writing('/root/restarted', 'yes')),
      );
    });

    it('reconcile run by root does both sides, advance as its own user', async () => {
      await other.manager.disable();
      const update = await submitManifest(first, 'by-hand', writing('/root/by-hand', 'yes'));
      await fleet.waitFor('the announcement is there', () =>
        other.machine.list(`${stateDir}/announcements`).some((name) => name.startsWith('by-hand@')),
      );
      const command = `umask 022; ${codeDir}/dist/p2p-update.cjs reconcile`;
      await fleet.waitFor('root has applied it by hand', async () => {
        expect(await other.machine.shell('root', command)).toMatchObject({
          ...{ status: 0, stdout: '', stderr: '' },
        });
        return outcomeOn(other, update)?.state === 'APPLIED';
      });
      const foreign = `find ${stateDir} ! -user p2p-update -o ! -group p2p-update`;
      expect((await other.machine.shell('root', foreign)).stdout).toBe('');
      const ours = `find ${applyDir} ! -path ${applyDir}/complete ! -user root`;
      expect((await other.machine.shell('root', ours)).stdout).toBe('');
      for (const name of units) other.manager.enable(name);
    });

    it("cron's lines do the same work", async () => {
      await other.manager.disable();
      await setUp(other.machine, '--cron');
      const jobs = readCronFile(other.machine.read('/etc/cron.d/p2p-update'));
      expect(jobs.map(({ when, user }) => `${when} ${user}`)).toEqual([
        '@reboot p2p-update',
        '@reboot root',
        '* * * * * p2p-update',
        '* * * * * root',
      ]);
      const update = await submitManifest(first, 'cron', writing('/root/cron', 'yes'));
      await fleet.waitFor('cron has applied it', async () => {
        // A minute of cron's: all of its jobs at once.
        const minute = jobs.filter(({ when }) => when !== '@reboot');
        const runs = await Promise.all(minute.map((job) => runCronJob(other.machine, job)));
        for (const run of runs) expect(run).toEqual({ status: 0, stdout: '', stderr: '' });
        return outcomeOn(other, update)?.state === 'APPLIED';
      });
      expect(other.machine.read('/root/cron')).toBe('yes');
      const open = `find ${stateDir} ${applyDir} ! -type l -perm /022 ! -path ${applyDir}/complete`;
      expect((await other.machine.shell('root', open)).stdout).toBe('');
    });

    it('no program of root creates a lost state directory as its own', async () => {
      const { machine } = other;
      const lose = `mv ${stateDir} ${stateDir}.lost`;
      expect(await machine.shell('root', lose)).toMatchObject({ status: 0 });
      for (const program of ['reconcile', 'apply']) {
        const run = await machine.shell('root', `${codeDir}/dist/p2p-update.cjs ${program}`);
        expect(run).toMatchObject({ status: 78, stdout: '' });
        expect(run.stderr).toContain(`${program}: error: ${stateDir} is gone\n`);
      }
      const left = await machine.shell('root', `ls -d ${stateDir}`);
      expect(left.status).not.toBe(0);
      await setUp(machine, '--cron');
      const owner = await machine.shell('root', `stat -c %U ${stateDir}`);
      expect(owner.stdout).toBe('p2p-update\n');
      expect(await machine.shell('root', `${codeDir}/dist/p2p-update.cjs apply`)).toMatchObject({
        status: 0,
      });
    });
  },
);
