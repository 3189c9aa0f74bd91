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
    for (const name of ['older', 'newest']) {
      const manifest = `file { '/root/${name}': content => 'yes' }\n`;
      const sent = await submitManifest(fleet(), name, manifest, '--wait');
      expect(sent.status, sent.stdout + sent.stderr).toBe(0);
    }
    const machine = lab.make('node-4', { lower: [lab.bare] });
    await machine.boot();
    await timed('bareToNewestSeconds', async () => {
      await timed('installSeconds', () => installPackage(machine));
      await timed('joinOfBareSeconds', () => joinFleet(machine, invitation));
      await waitForFile(machine, '/root/newest');
    });
    await waitForFile(machine, '/root/older');
    await requireSound(machine);
  });
}
