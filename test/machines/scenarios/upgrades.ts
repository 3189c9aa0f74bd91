import { expect, it } from 'vitest';
import {
  type MachineFleet,
  packageFile,
  requireSound,
  slowManifest,
  submitAndWait,
  submitManifest,
  waitForFile,
  waitUntilConverged,
} from '../fleet.ts';
import type { Machine } from '../machine.ts';

/** Makes a package of the same content with another version; returns its path. */
async function makeVersion(machine: Machine, version: string): Promise<string> {
  const script = `set -e
rm -rf /root/tree
dpkg-deb -R "$1" /root/tree
sed -i "s/^Version: .*/Version: $2/" /root/tree/DEBIAN/control
dpkg-deb --root-owner-group -b /root/tree "/root/p2p-update-$2.deb"`;
  await machine.mustRun(['sh', '-c', script, 'sh', packageFile, version]);
  return `/root/p2p-update-${version}.deb`;
}

async function versionOf(machine: Machine): Promise<string> {
  return machine.mustRun([
    'dpkg-query',
    '--show',
    '--showformat',
    '${Status} ${Version}',
    'p2p-update',
  ]);
}

export function upgrades(fleet: () => MachineFleet): void {
  it('during an update waits until Puppet has ended, and the units are active again', async () => {
    const [, machine] = fleet().nodes;
    const deb = await makeVersion(machine, '8.0.0');
    await submitManifest(fleet(), 'upgraded', slowManifest('upgraded', 15), '--target', 'role=web');
    await waitForFile(machine, '/root/upgraded-began');
    expect(await machine.exists('/root/upgraded-ended')).toBe(false);
    await machine.mustRun(['apt-get', 'install', '--yes', deb], { timeoutMs: 300_000 });
    expect(await machine.exists('/root/upgraded-ended')).toBe(true);
    expect(await versionOf(machine)).toBe('install ok installed 8.0.0');
    await waitUntilConverged(fleet(), 'upgraded');
    await requireSound(machine);
  });

  it('that is itself an update is applied, and the units are active again', async () => {
    const { operator, nodes } = fleet();
    const deb = await makeVersion(operator, '9.0.0');
    await submitAndWait(fleet(), '--channel', 'package', '--name', 'p2p-update.deb', deb);
    const manifest = `package { 'p2p-update':
  ensure => latest, provider => dpkg, source => '/var/lib/p2p-update/files/p2p-update.deb',
}
`;
    const sent = await submitManifest(fleet(), 'upgrade', manifest, '--wait');
    expect(sent.status, sent.stdout + sent.stderr).toBe(0);
    for (const machine of nodes) {
      expect(await versionOf(machine)).toBe('install ok installed 9.0.0');
      await requireSound(machine);
    }
    const after = await submitManifest(
      fleet(),
      'after',
      "file { '/root/after': content => 'yes' }\n",
      '--wait',
    );
    expect(after.status, after.stdout + after.stderr).toBe(0);
  });
}
