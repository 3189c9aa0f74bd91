import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { repository } from '../../support/run/repository.ts';
import { installPackage, type MachineFleet, requireSound } from '../fleet.ts';

/**
 * The commands of docs/setup.md, section "By hand", in their order. The last block is for machines without
 * systemd; the packages come from where the other machines have them.
 */
function commandsOfGuide(): string[] {
  const guide = readFileSync(join(repository, 'docs/setup.md'), 'utf8');
  const section = /^## By hand\n([^]*?)^## /m.exec(guide)?.[1] ?? '';
  const blocks = [...section.matchAll(/^```console\n([^]*?)^```/gm)].map(([, text = '']) => text);
  const lines = blocks.slice(0, -1).flatMap((block) => block.trimEnd().split('\n'));
  for (const line of lines) expect(line).toMatch(/^# \S/);
  return lines.map((line) => line.slice(2)).filter((line) => !line.startsWith('apt-get '));
}

export function byHand(fleet: () => MachineFleet): void {
  it('works word by word on a bare machine, and set-up then finds nothing else to do', async () => {
    const { lab } = fleet();
    const machine = lab.make('node-6');
    await machine.boot();
    await installPackage(machine);
    const script = ['set -ex', 'cd /root', ...commandsOfGuide()].join('\n');
    const { status, stdout, stderr } = await machine.run(['bash', '-c', script]);
    expect(status, stdout + stderr).toBe(0);
    await requireSound(machine);
    const setup = ['p2p-update', 'setup', '--new-fleet', 'lab', '--dry-run', '--json'];
    const { steps, left } = JSON.parse(await machine.mustRun(setup)) as {
      steps: { path: string }[];
      left: unknown[];
    };
    expect(left).toEqual([]);
    // Its own record, and perhaps that of the machine, which the first run of apply makes.
    const own = ['/etc/p2p-update/setup.json', '/var/lib/p2p-update/apply/machine'];
    expect(steps.map(({ path }) => path).filter((path) => !own.includes(path))).toEqual([]);
  });
}
