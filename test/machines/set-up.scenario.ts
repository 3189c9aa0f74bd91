import { beforeAll, describe, expect, it } from 'vitest';
import { type MachineFleet, theFleet } from './fleet.ts';

const units = [
  ...['serf.service', 'transmission-daemon.service'],
  ...['p2p-update-advance.path', 'p2p-update-advance.timer'],
  ...['p2p-update-apply.path', 'p2p-update-apply.timer'],
];

describe('a fleet of three machines', () => {
  let fleet: MachineFleet;
  beforeAll(async () => {
    fleet = await theFleet();
  });

  it('is set up by one command on each machine, and every member is alive', async () => {
    for (const machine of fleet.nodes) {
      const members = await machine.mustRun(['p2p-update', 'doctor', '--json']);
      expect(JSON.parse(members)).toMatchObject({ exitStatus: 0 });
    }
  });

  it('has its daemons and units active, and enabled for the next boot', async () => {
    for (const machine of fleet.nodes)
      for (const unit of units) {
        expect(await machine.show(unit, 'ActiveState'), `${machine.name} ${unit}`).toBe('active');
        expect(await machine.show(unit, 'UnitFileState'), unit).toBe('enabled');
      }
  });

  it('has no failed unit', async () => {
    for (const machine of fleet.nodes) {
      const failed = await machine.mustRun(['systemctl', '--failed', '--no-legend', '--plain']);
      expect(failed, machine.name).toBe('');
    }
  });
});
