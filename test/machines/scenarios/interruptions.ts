import { expect, it } from 'vitest';
import { waitFor } from '../../support/run/wait-for.ts';
import {
  type MachineFleet,
  requireSound,
  slowManifest,
  submitManifest,
  submitSlowly,
  timed,
  waitForFile,
  waitUntilConverged,
} from '../fleet.ts';
import type { Machine } from '../machine.ts';

export function interruptions(fleet: () => MachineFleet): void {
  const isDownloaded = async (machine: Machine, name: string): Promise<void> => {
    fleet().lab.limit(machine, null);
    await waitForFile(machine, `/var/lib/p2p-update/files/${name}`);
    await waitUntilConverged(fleet(), name);
  };
  /** Submits a manifest that takes a while, and returns in the midst of Puppet's run. */
  const submitSlowManifest = async (machine: Machine, name: string): Promise<void> => {
    await submitManifest(fleet(), name, slowManifest(name, 15), '--target', 'role=web');
    await waitForFile(machine, `/root/${name}-began`);
    expect(await machine.exists(`/root/${name}-ended`)).toBe(false);
  };

  it('by a reboot during a download only delays the update', async () => {
    const [, machine] = fleet().nodes;
    await submitSlowly(fleet(), machine, 'reboot-download');
    await machine.reboot();
    await isDownloaded(machine, 'reboot-download');
  });

  it('by a power cut during a download only delays the update', async () => {
    const [, machine] = fleet().nodes;
    await submitSlowly(fleet(), machine, 'cut-download');
    await machine.cutPower();
    await machine.boot();
    await isDownloaded(machine, 'cut-download');
  });

  it('by a reboot during a run of Puppet ends that run, and the update is applied after it', async () => {
    const [, machine] = fleet().nodes;
    await submitSlowManifest(machine, 'reboot-puppet');
    await timed('rebootDuringPuppetSeconds', () => machine.reboot());
    expect(await machine.exists('/root/reboot-puppet-ended')).toBe(false);
    await waitForFile(machine, '/root/reboot-puppet-ended');
    await waitUntilConverged(fleet(), 'reboot-puppet');
  });

  it('by a power cut during a run of Puppet is made good after it', async () => {
    const [, machine] = fleet().nodes;
    await submitSlowManifest(machine, 'cut-puppet');
    await machine.cutPower();
    await machine.boot();
    await waitForFile(machine, '/root/cut-puppet-ended');
    await waitUntilConverged(fleet(), 'cut-puppet');
  });

  it('by a time off is caught up, and until then the node is missed by name', async () => {
    const [, , machine] = fleet().nodes;
    await machine.shutDown();
    const manifest = "file { '/root/off': content => 'yes' }\n";
    const sent = await submitManifest(fleet(), 'off', manifest, '--wait', '--timeout', '30s');
    expect(sent.status).toBe(75);
    expect(sent.answer.nodes?.find(({ name }) => name === machine.name)?.outcome).not.toBe(
      'applied',
    );
    await timed('caughtUpAfterBootSeconds', async () => {
      await machine.boot();
      await waitForFile(machine, '/root/off');
    });
    await waitUntilConverged(fleet(), 'off');
  });

  it('by a network that comes after Serf has started heals by itself', async () => {
    const [first, machine] = fleet().nodes;
    for (const each of [first, machine]) await each.shutDown();
    for (const each of [first, machine]) {
      fleet().lab.plug(each, false);
      await each.boot();
    }
    for (const each of [first, machine])
      await waitFor(`Serf runs on ${each.name}`, async () => {
        return (await each.show('serf.service', 'ActiveState')) === 'active';
      });
    for (const each of [first, machine]) fleet().lab.plug(each, true);
    await timed('togetherAfterLateNetworkSeconds', async () => {
      for (const each of fleet().nodes) await requireSound(each);
    });
  });

  it('by a power cut of all machines at once leaves one fleet, which goes on', async () => {
    const { nodes } = fleet();
    await submitSlowManifest(nodes[1], 'cut-all');
    await Promise.all(nodes.map((machine) => machine.cutPower()));
    await Promise.all(nodes.map((machine) => machine.boot()));
    for (const machine of nodes.slice(1)) await waitForFile(machine, '/root/cut-all-ended');
    await waitUntilConverged(fleet(), 'cut-all');
    for (const machine of nodes) await requireSound(machine);
  });
}
