import { createHash, randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startFleet, type Fleet } from '../support/fleet/fleet.ts';
import type { FleetNode } from '../support/fleet/fleet-node.ts';
import { moduleTarball } from '../support/fleet/module.ts';
import { eventsOf, hasEvent, submit, type Submitted } from '../support/fleet/submit.ts';

let fleet: Fleet;
let operator: FleetNode;

beforeAll(async () => {
  fleet = await startFleet({ nodes: 2 });
  [operator] = fleet.nodes as [FleetNode];
});

afterAll(() => {
  fleet.stop();
});

const everywhere = (update: Submitted, decision: string): Promise<boolean> =>
  fleet.waitFor(`every node: ${decision} ${update.channel}@${update.version}`, () =>
    fleet.nodes.every((node) => hasEvent(node, update, decision)),
  );

describe('each kind of update', () => {
  it('is applied: a module, then a manifest that uses it, and the changed module takes effect', async () => {
    const use = join(fleet.directory, 'use.pp');
    writeFileSync(use, 'include hello\n');
    const one = await submit(operator, moduleTarball(fleet.directory, 'hello one'));
    expect(one.channel).toBe('acme-hello');
    const first = await submit(operator, use, '--channel', 'use');
    await everywhere(one, 'applied');
    await everywhere(first, 'applied');
    const read = (node: FleetNode): string =>
      readFileSync(join(node.config.puppet.confDir, 'hello'), 'utf8');
    expect(fleet.nodes.map(read)).toEqual(Array(2).fill('hello one'));

    const two = await submit(operator, moduleTarball(fleet.directory, 'hello two'));
    await everywhere(two, 'applied');
    const again = await submit(operator, use, '--channel', 'use', '--rerun');
    await everywhere(again, 'applied');
    expect(fleet.nodes.map(read)).toEqual(Array(2).fill('hello two'));
  });

  it('is applied: a directory with a module of its own and Hiera data, by the manifest that it names, and from a .tar.gz', async () => {
    const environment = join(fleet.directory, 'an environment');
    const write = (path: string, text: string): void => {
      mkdirSync(join(environment, path, '..'), { recursive: true });
      writeFileSync(join(environment, path), text);
    };
    write('code/site.pp', 'include greeting\n');
    write('manifests/old.pp', 'fail("environment.conf names another one")\n');
    write(
      'modules/greeting/manifests/init.pp',
      'class greeting { file { "${settings::confdir}/greeting": content => lookup("word") } }\n',
    );
    write('hiera.yaml', 'version: 5\nhierarchy:\n  - name: all\n    path: common.yaml\n');
    write('data/common.yaml', 'word: from hiera\n');
    write('environment.conf', 'manifest = code/site.pp\nmodulepath = modules:$basemodulepath\n');
    const update = await submit(operator, environment, '--channel', 'env', '--name', 'env.tar.gz');
    await everywhere(update, 'applied');
    for (const node of fleet.nodes)
      expect(readFileSync(join(node.config.puppet.confDir, 'greeting'), 'utf8')).toBe('from hiera');

    // The same, as a forge packs it.
    write('data/common.yaml', 'word: from a forge\n');
    const archive = join(fleet.directory, 'main.tar.gz');
    const packed = await operator.run([
      'tar',
      '-C',
      fleet.directory,
      '-czf',
      archive,
      'an environment',
    ]);
    expect(packed.status).toBe(0);
    const kind = ['--kind', 'environment', '--channel', 'env'];
    await everywhere(await submit(operator, archive, ...kind), 'applied');
    for (const node of fleet.nodes)
      expect(readFileSync(join(node.config.puppet.confDir, 'greeting'), 'utf8')).toBe(
        'from a forge',
      );
  });

  it.each([
    ['1 KiB', 2 ** 10, 'in'],
    ['5 MiB', 5 * 2 ** 20, 'in'],
    ['64 MiB', 64 * 2 ** 20, 'magnet'],
  ])('is applied: a plain file of %s, through one event', async (label, size, pieces) => {
    const file = join(fleet.directory, `${label.replace(' ', '-')}.bin`);
    // One random MiB, repeated with a counter: quick to make, and no two pieces alike.
    const block = randomBytes(Math.min(size, 2 ** 20));
    const content = Buffer.alloc(size);
    for (let offset = 0; offset < size; offset += block.length) {
      block.writeUInt32BE(offset);
      block.copy(content, offset);
    }
    writeFileSync(file, content);
    const update = await submit(operator, file, '--channel', 'sizes');
    expect(update.pieces).toBe(pieces);
    expect(update.bytesUsed).toBeLessThanOrEqual(351);
    await everywhere(update, 'applied');
    const digest = createHash('sha256').update(content).digest('hex');
    expect(update.sha256).toBe(digest);
    for (const node of fleet.nodes) {
      const delivered = readFileSync(join(node.config.deliveryDir, update.name));
      expect(createHash('sha256').update(delivered).digest('hex')).toBe(digest);
      const woken = eventsOf(node, update).filter(({ handler }) => handler === 'update');
      expect(woken).toHaveLength(1);
      const torrent = join(node.config.stateDir, 'torrents', `sizes-${update.version}.torrent`);
      await fleet.waitFor('the .torrent is kept', () => existsSync(torrent));
    }
  });

  it('is put right when it is submitted again: a file that was changed or removed on a node', async () => {
    const file = join(fleet.directory, 'motd');
    writeFileSync(file, 'as submitted');
    await everywhere(await submit(operator, file, '--channel', 'motd'), 'applied');
    const [first = '', second = ''] = fleet.nodes.map(({ config }) =>
      join(config.deliveryDir, 'motd'),
    );
    writeFileSync(first, 'by hand');
    rmSync(second);
    await everywhere(await submit(operator, file, '--channel', 'motd'), 'applied');
    for (const path of [first, second]) expect(readFileSync(path, 'utf8')).toBe('as submitted');
  });
});
