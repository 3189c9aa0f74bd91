import { expect, it } from 'vitest';
import { waitFor } from '../../support/run/wait-for.ts';
import {
  type MachineFleet,
  submitManifest,
  submitSlowly,
  waitForFile,
  waitUntilConverged,
} from '../fleet.ts';

const advance = ['p2p-update-advance.path', 'p2p-update-advance.timer'];
const apply = ['p2p-update-apply.path', 'p2p-update-apply.timer'];
const paths = ['p2p-update-advance.path', 'p2p-update-apply.path'];
const timers = ['p2p-update-advance.timer', 'p2p-update-apply.timer'];

export function units(fleet: () => MachineFleet): void {
  it('run an update by the path units alone', async () => {
    const [, machine] = fleet().nodes;
    await machine.mustRun(['systemctl', 'stop', ...timers]);
    await submitManifest(fleet(), 'paths', "file { '/root/paths': content => 'yes' }\n");
    await waitForFile(machine, '/root/paths');
    await machine.mustRun(['systemctl', 'start', ...timers]);
  });

  it('run an update by the timers alone', async () => {
    const [, machine] = fleet().nodes;
    await machine.mustRun(['systemctl', 'stop', ...paths]);
    await submitManifest(fleet(), 'timers', "file { '/root/timers': content => 'yes' }\n");
    await waitForFile(machine, '/root/timers');
    await machine.mustRun(['systemctl', 'start', ...paths]);
  });

  it('let the hook mark a download as the user of the daemon, under the restrictions of its unit', async () => {
    const [, machine] = fleet().nodes;
    const markers = '/var/lib/p2p-update/apply/complete';
    await machine.mustRun(['systemctl', 'stop', ...apply]);
    const { infoHash = '' } = await submitSlowly(fleet(), machine, 'hook');
    // Advance would make the marker too.
    await machine.mustRun(['systemctl', 'stop', ...advance, 'p2p-update-advance.service']);
    const marker = `${markers}/${infoHash}`;
    expect(await machine.exists(marker)).toBe(false);
    fleet().lab.limit(machine, null);
    await waitFor('the marker is there', () => machine.exists(marker));
    const owner = await machine.mustRun(['stat', '--format', '%U %s', marker]);
    expect(owner).toBe('debian-transmission 0\n');
    await machine.mustRun(['systemctl', 'start', ...advance, ...apply]);
    await waitUntilConverged(fleet(), 'hook');
  });

  it('run the agent and its handlers as p2p-update, without capabilities', async () => {
    for (const machine of fleet().nodes) {
      const pid = await machine.show('serf.service', 'MainPID');
      const status = (await machine.read(`/proc/${pid}/status`)) ?? '';
      const owner = await machine.mustRun(['stat', '--format', '%U', `/proc/${pid}`]);
      expect(owner).toBe('p2p-update\n');
      expect(status).toMatch(/^CapEff:\t0+$/m);
      expect(status).toMatch(/^NoNewPrivs:\t1$/m);
    }
  });
}
