import { chmodSync, chownSync, existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { distDirectory } from '../../lib/build.ts';
import { serfEnvironment } from '../support/fleet/serf-environment.ts';
import { a2, a6, DamagedNode, keyOf } from '../support/history/damaged-node.ts';
import { startedAt } from '../support/history/history.ts';
import { mustRun, runSync } from '../support/run/command.ts';
import { clockOf } from '../support/run/faketime.ts';
import { distForOthers, programArgv } from '../support/run/program.ts';
import { readTree } from '../support/run/tree.ts';

/** Another user, who is subject to modes. */
const nobody = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups'];
const asAnother = { skip: process.geteuid?.() !== 0 || runSync([...nobody, 'true']).status !== 0 };

describe('the real programs', () => {
  // The time of the history, before which nothing of it is applied.
  const clock = clockOf(new Date(startedAt * 1000).toISOString().slice(0, 19).replace('T', ' '));
  const program = (
    place: DamagedNode,
    name: string,
    input = '',
    [identity, dist]: [string[], string] = [[], distDirectory()],
  ) => {
    const configFile = join(place.directory, 'etc', 'config.json');
    const { config } = place.node;
    if (!existsSync(configFile)) writeFileSync(configFile, JSON.stringify(config));
    const argv = [...identity, ...programArgv(name, dist)];
    // Another user cannot open the memory that faketime shares.
    const env = { ...serfEnvironment(configFile), ...(identity.length === 0 ? clock : {}) };
    return runSync(argv, { env, input });
  };

  it('name the damaged file, and exit with 78', async () => {
    const place = await DamagedNode.make();
    const { config } = place.restore();
    const outcome = join(config.applyDir, 'outcomes', keyOf(a2));
    for (const file of [outcome, `${outcome}.previous`]) writeFileSync(file, '');
    const { status, stderr } = program(place, 'p2p-update.cjs apply');
    expect(status).toBe(78);
    expect(stderr).toMatch(/error: the record .* is corrupt[^]*hint: check the disk/);
    expect(readFileSync(join(config.deliveryDir, 'b.txt'), 'utf8')).toBe('two');
    rmSync(join(config.applyDir, 'keysets'), { recursive: true });
    const handled = program(place, 'handlers/update.cjs', place.node.payloadOf(a6));
    expect(handled.status).toBe(78);
    expect(handled.stderr).toMatch(/error: key set 2 was in force[^]*hint: place the newest/);
    const configFile = join(place.directory, 'etc', 'config.json');
    writeFileSync(configFile, readFileSync(configFile).subarray(1));
    expect(program(place, 'handlers/update.cjs', place.node.payloadOf(a6)).status).toBe(78);
  });

  it.skipIf(asAnother.skip)(
    'without access to a directory refuse, and change nothing',
    async () => {
      const place = await DamagedNode.make();
      const dist = distForOthers();
      for (const name of ['announcements', 'updates']) {
        const { config } = place.restore();
        mustRun(['chown', '-R', '65534:65534', config.stateDir]);
        chmodSync(join(place.directory, '..'), 0o755);
        const directory = join(config.stateDir, name);
        chownSync(directory, 0, 0);
        chmodSync(directory, 0);
        const before = readTree(config.stateDir);
        const { status, stderr } = program(place, 'handlers/update.cjs', place.node.payloadOf(a6), [
          nobody,
          dist,
        ]);
        expect(status).toBe(78);
        expect(stderr).toMatch(/is closed to this user[^]*hint: /);
        const after = readTree(config.stateDir);
        delete after['events.log'];
        delete before['events.log'];
        expect(after).toEqual(before);
      }
    },
  );
});
