import { expect, it } from 'vitest';
import { waitFor } from '../../support/run/wait-for.ts';
import {
  installPackage,
  joinFleet,
  type MachineFleet,
  requireSound,
  submit,
  submitManifest,
  waitForFile,
  waitUntilConverged,
} from '../fleet.ts';

const clockFile = '/etc/systemd/system.conf.d/clock.conf';
const offset = '/etc/faketimerc';

export function trouble(fleet: () => MachineFleet): void {
  it('of two machines with one name is told to the second, and the first stays a member', async () => {
    const { lab, invitation, nodes } = fleet();
    const twin = lab.make('twin', { hostName: nodes[1].name });
    await twin.boot();
    await installPackage(twin);
    // The member that it calls is refused before anything is done: no third node would vote there.
    const asFirst = joinFleet(twin, invitation, ['--node-name', nodes[0].name]);
    await expect(asFirst).rejects.toThrow(/node-1 too.*\n.*--node-name NAME/);
    expect(await twin.exists('/etc/p2p-update/setup.json')).toBe(false);
    await expect(joinFleet(twin, invitation)).rejects.toThrow(/node-2 too.*\n.*--node-name NAME/);
    // It would end the other's agent, now or after a boot.
    const state = await twin.run(['systemctl', 'is-active', 'serf']);
    const atBoot = await twin.run(['systemctl', 'is-enabled', 'serf']);
    expect(state.stdout).toMatch(/^(inactive|failed)\n$/);
    expect(atBoot.stdout).toBe('disabled\n');
    const manifest = "file { '/root/twin': content => 'yes' }\n";
    const sent = await submitManifest(fleet(), 'twin', manifest, '--wait');
    expect(sent.status, sent.stdout + sent.stderr).toBe(0);
    await waitForFile(nodes[1], '/root/twin');
    // With another name it becomes a node, and then leaves for good.
    await joinFleet(twin, invitation, ['--node-name', 'twin']);
    await waitForFile(twin, '/root/twin');
    await twin.shutDown();
    await waitFor('the second is retired', async () => {
      return (await nodes[0].run(['p2p-update', 'retire', 'twin'])).status === 0;
    });
    for (const machine of nodes) await requireSound(machine);
  });

  it('of a full disk is named, and the update is applied once there is space', async () => {
    const { operator, nodes } = fleet();
    const [, , machine] = nodes;
    await machine.run(['dd', 'if=/dev/zero', 'of=/root/fill', 'bs=64k']);
    await operator.mustRun(['sh', '-c', 'head -c 1048576 /dev/urandom >/root/full']);
    const sent = await submit(
      fleet(),
      '--channel',
      'full',
      '--wait',
      '--timeout',
      '45s',
      '/root/full',
    );
    expect(sent.status).not.toBe(0);
    const missed = sent.answer.nodes?.filter(({ outcome }) => outcome !== 'applied');
    expect(missed?.map(({ name }) => name)).toEqual([machine.name]);
    const { stdout } = await operator.run(['p2p-update', 'status']);
    expect(stdout).toMatch(/(disk|space).*\n +on node-3/);
    await machine.mustRun(['rm', '/root/fill']);
    await waitForFile(machine, '/var/lib/p2p-update/files/full');
    await waitUntilConverged(fleet(), 'full');
    await requireSound(machine);
  });

  it('of a clock that is wrong at boot holds updates back until it is set', async () => {
    const { nodes } = fleet();
    const [, machine] = nodes;
    await machine.shutDown();
    const library = '/usr/$LIB/faketime/libfaketime.so.1';
    const variables = `LD_PRELOAD=${library} FAKETIME_DONT_FAKE_MONOTONIC=1 FAKETIME_CACHE_DURATION=1`;
    machine.writeOff(clockFile, `[Manager]\nDefaultEnvironment=${variables}\n`);
    machine.writeOff(offset, '-3000d\n');
    await machine.boot();
    const manifest = "file { '/root/clock': content => 'yes' }\n";
    const sent = await submitManifest(fleet(), 'clock', manifest, '--wait', '--timeout', '45s');
    expect(sent.status).not.toBe(0);
    expect(await machine.exists('/root/clock')).toBe(false);
    const missed = sent.answer.nodes?.filter(({ outcome }) => outcome !== 'applied');
    expect(missed?.map(({ name }) => name)).toEqual([machine.name]);
    await machine.write(offset, '+0\n');
    await waitForFile(machine, '/root/clock');
    await waitUntilConverged(fleet(), 'clock');
    await machine.shutDown();
    machine.removeOff(clockFile);
    machine.removeOff(offset);
    await machine.boot();
    await requireSound(machine);
  });
}
