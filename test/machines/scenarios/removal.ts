import { expect, it } from 'vitest';
import { waitFor } from '../../support/run/wait-for.ts';
import {
  installPackage,
  joinFleet,
  type MachineFleet,
  requireSound,
  submitManifest,
} from '../fleet.ts';
import type { Machine } from '../machine.ts';

/** Places that are not p2p-update's to clear: caches, logs, dpkg's records, and the torrents in Transmission (docs/setup.md). */
const others = [
  '/var/cache/*',
  '/var/log/*',
  '/var/lib/dpkg/*',
  '/var/lib/transmission-daemon/downloads/*',
];

/** Files of p2p-update that are left. */
async function leftOn(machine: Machine): Promise<string> {
  const places = ['/etc', '/usr', '/var', '/opt', '/run'];
  const paths = others.flatMap((path) => ['-path', path, '-o']).slice(0, -1);
  return machine.mustRun([
    ...['find', ...places, '-xdev', '(', ...paths, ')', '-prune'],
    ...['-o', '-name', '*p2p-update*', '-print'],
  ]);
}

export function removal(fleet: () => MachineFleet): void {
  it('by a purge leaves nothing, and Serf and Transmission run without it', async () => {
    const { invitation, nodes } = fleet();
    const [, , machine] = nodes;
    await machine.mustRun(['apt-get', 'purge', '--yes', 'p2p-update'], { timeoutMs: 300_000 });
    expect(await leftOn(machine)).toBe('');
    expect((await machine.run(['getent', 'passwd', 'p2p-update'])).status).toBe(2);
    for (const unit of ['serf.service', 'transmission-daemon.service']) {
      expect(await machine.show(unit, 'ActiveState')).toBe('active');
      expect(await machine.show(unit, 'DropInPaths')).toBe('');
    }
    expect(await machine.mustRun(['systemctl', '--failed', '--no-legend'])).toBe('');
    await machine.reboot();
    expect(await machine.mustRun(['systemctl', '--failed', '--no-legend'])).toBe('');

    await installPackage(machine);
    await joinFleet(machine, invitation);
    await requireSound(machine);
  });

  it('by setup --remove takes the node out, and it can be retired', async () => {
    const { operator, nodes } = fleet();
    const [, , machine] = nodes;
    await machine.mustRun(['p2p-update', 'setup', '--remove', '--yes'], { timeoutMs: 300_000 });
    expect(await machine.mustRun(['systemctl', '--failed', '--no-legend'])).toBe('');
    for (const unit of ['p2p-update-advance.timer', 'p2p-update-apply.path'])
      expect(await machine.show(unit, 'ActiveState')).toBe('inactive');
    await waitFor(`${machine.name} is retired`, async () => {
      return (await operator.run(['p2p-update', 'retire', machine.name])).status === 0;
    });
    const sent = await submitManifest(
      fleet(),
      'last',
      "file { '/root/last': content => 'yes' }\n",
      '--wait',
    );
    expect(sent.answer.nodes?.map(({ name }) => name)).not.toContain(machine.name);
    expect(await machine.exists('/root/last')).toBe(false);
  });
}
