import { expect, it } from 'vitest';
import {
  installPackage,
  joinFleet,
  type MachineFleet,
  requireSound,
  submitManifest,
  timed,
  waitForFile,
} from '../fleet.ts';

export function newcomers(fleet: () => MachineFleet): void {
  it('without any of the dependencies becomes a node that has applied the newest updates', async () => {
    const { lab, invitation } = fleet();
    const manifest = "file { '/root/newest': content => 'yes' }\n";
    const sent = await submitManifest(fleet(), 'newest', manifest, '--wait');
    expect(sent.status, sent.stdout + sent.stderr).toBe(0);
    const machine = lab.make('node-4', { lower: [lab.bare] });
    await machine.boot();
    await timed('bareToNewestSeconds', async () => {
      await timed('installSeconds', () => installPackage(machine));
      await timed('joinOfBareSeconds', () => joinFleet(machine, invitation));
      await waitForFile(machine, '/root/newest');
    });
    // Among them are updates of before its time, in other channels.
    await waitForFile(machine, '/root/manifest');
    await requireSound(machine);
  });
}
