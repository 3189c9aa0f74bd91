import { expect, it } from 'vitest';
import { type MachineFleet, requireSound, wakers } from '../fleet.ts';

const units = ['serf.service', 'transmission-daemon.service', ...wakers];

export function setUp(fleet: () => MachineFleet): void {
  it('leaves every machine sound, by the word of doctor, and without a failed unit', async () => {
    for (const machine of fleet().nodes) await requireSound(machine);
  });

  it('leaves daemons and units active, and enabled for the next boot', async () => {
    for (const machine of fleet().nodes)
      for (const unit of units) {
        expect(await machine.show(unit, 'ActiveState'), `${machine.name} ${unit}`).toBe('active');
        expect(await machine.show(unit, 'UnitFileState'), unit).toBe('enabled');
      }
  });

  it('has nothing left to do when it is run again', async () => {
    for (const machine of fleet().nodes)
      expect(await machine.mustRun(['p2p-update', 'setup', '--dry-run'])).toBe('nothing to do\n');
  });
}
