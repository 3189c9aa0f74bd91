import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { parseConfig } from '../../../lib/config.ts';
import type { SetupStep } from '../../../scripts/setup/plan.ts';
import type { Found, Machine } from '../../../scripts/setup/rules.ts';
import { decideFollowUps, type FollowUpOptions } from '../../../scripts/setup/follow-ups.ts';
import { repository } from '../../support/run/repository.ts';

const codeDir = '/opt/p2p-update';
const units = '/etc/systemd/system';
const wants = ['path', 'timer'].flatMap((kind) =>
  ['advance', 'apply'].map((side) => `${units}/${kind}s.target.wants/p2p-update-${side}.${kind}`),
);
const handlerFiles = ['update', 'status', 'latest', 'member-join'].map(
  (name) => `${codeDir}/dist/handlers/${name}.cjs`,
);
const sample = readFileSync(join(repository, 'serf.json'), 'utf8');
/** A node where nothing is left to do, path to text. */
const files: Record<string, string> = {
  '/etc/p2p-update/keyset.txt': '',
  '/etc/p2p-update/transmission.json': '',
  '/etc/p2p-update/serf-rpc.key': 'secret\n',
  [`${codeDir}/serf.json`]: sample,
  ...Object.fromEntries(handlerFiles.map((path) => [path, ''])),
  '/etc/serf/10-p2p-update.json': sample.replaceAll('example.net', 'lan'),
  '/etc/serf/20-keys.json': '{ "encrypt_key": "key", "rpc_auth": "secret" }',
  '/etc/transmission-daemon/settings.json': JSON.stringify({
    'script-torrent-done-enabled': true,
    'script-torrent-done-filename': `${codeDir}/dist/handlers/transmission-done.cjs`,
  }),
  '/usr/sbin/cron': '',
  '/etc/default/serf': 'USER=p2p-update\n',
  ...Object.fromEntries(wants.map((path) => [path, ''])),
};

function machine(all: Record<string, string>, uid = 999): Machine {
  const found: Found = { type: 'file', uid, gid: 999, mode: 0o750 };
  return {
    users: new Map([['p2p-update', { uid: 999, gid: 999 }]]),
    groups: new Map(),
    look: (path) => (path in all ? found : undefined),
    read: (path) => all[path],
    follow: () => undefined,
    isReadOnly: () => false,
    list: (path) =>
      Object.keys(all)
        .filter((each) => each.startsWith(`${path}/`))
        .map((each) => each.slice(path.length + 1)),
  };
}

const written = (path: string): SetupStep => ({
  kind: 'write-file',
  path,
  ownership: { owner: 'root', group: 'root', mode: 0o644 },
  text: '',
  old: 'of before',
});
const without = (...paths: string[]): Record<string, string> =>
  Object.fromEntries(Object.entries(files).filter(([path]) => !paths.includes(path)));
const all = [
  'p2p-update-advance.path p2p-update-advance.timer',
  'p2p-update-apply.path p2p-update-apply.timer',
].join(' ');

const config = parseConfig(
  JSON.stringify({ serf: { rpcAuthFile: '/etc/p2p-update/serf-rpc.key' } }),
  'the defaults',
);

describe('decideFollowUps', () => {
  const systemd: FollowUpOptions = { scheduler: 'systemd', codeDir, root: '/', starts: false };
  const cron: FollowUpOptions = { ...systemd, scheduler: 'cron' };
  const image: FollowUpOptions = { ...systemd, root: '/mnt/card' };

  it.each<[string, FollowUpOptions, Record<string, string>, SetupStep[], string[]]>([
    ['the node is complete', systemd, files, [], []],
    ['the node with cron is complete', cron, files, [], []],
    [
      'units are new',
      systemd,
      without(...wants),
      [written(`${units}/p2p-update-apply.path`)],
      ['systemctl daemon-reload', `systemctl enable --now ${all}`],
    ],
    [
      'enabled units have changed',
      systemd,
      files,
      [written(`${units}/p2p-update-apply.path`)],
      ['systemctl daemon-reload', `systemctl restart ${all}`],
    ],
    [
      "Serf's drop-in has changed",
      systemd,
      files,
      [written(`${units}/serf.service.d/p2p-update.conf`)],
      ['systemctl daemon-reload', 'systemctl restart serf'],
    ],
    [
      'the user is new',
      systemd,
      files,
      [{ kind: 'add-user', user: 'p2p-update' }],
      ['systemctl restart serf'],
    ],
    [
      'it is an image, where nothing can be started',
      image,
      without(...wants),
      [written(`${units}/p2p-update-apply.path`)],
      [`systemctl --root /mnt/card enable ${all}`],
    ],
    [
      'Serf has no handler',
      systemd,
      without('/etc/serf/10-p2p-update.json'),
      [],
      [`install -m 644 ${codeDir}/serf.json /etc/serf/10-p2p-update.json`, 'systemctl reload serf'],
    ],
    [
      'Serf has the handlers of an earlier version',
      systemd,
      {
        ...files,
        '/etc/serf/10-p2p-update.json': JSON.stringify({
          event_handlers: [`user:update=${codeDir}/dist/handlers/update.cjs`],
        }),
      },
      [],
      [`install -m 644 ${codeDir}/serf.json /etc/serf/10-p2p-update.json`, 'systemctl reload serf'],
    ],
    [
      "Serf's members are those of the sample",
      systemd,
      { ...files, '/etc/serf/10-p2p-update.json': sample },
      [],
      ['editor /etc/serf/10-p2p-update.json', 'systemctl restart serf'],
    ],
    [
      'the RPC keys of the two sides differ',
      systemd,
      { ...files, '/etc/p2p-update/serf-rpc.key': 'other' },
      [],
      ['editor /etc/p2p-update/serf-rpc.key', 'systemctl restart serf'],
    ],
    [
      'Transmission has no hook',
      image,
      without('/etc/transmission-daemon/settings.json'),
      [],
      ['editor /etc/transmission-daemon/settings.json'],
    ],
    [
      'there is no key set',
      systemd,
      without('/etc/p2p-update/keyset.txt'),
      [],
      [`${codeDir}/dist/p2p-update.cjs setup --join ADDRESS`],
    ],
    [
      'the key set is placed in this run',
      systemd,
      without('/etc/p2p-update/keyset.txt'),
      [written('/etc/p2p-update/keyset.txt')],
      [],
    ],
  ])('lists the commands that are left when %s', (_, options, present, steps, commands) => {
    const plan = { config, steps };
    const followUps = decideFollowUps(plan, machine(present), options);
    expect(followUps.flatMap((each) => each.commands)).toEqual(commands);
  });

  it("gives root's old files in the state directory to p2p-update", () => {
    const state = { '/var/lib/p2p-update/state/events.log': '' };
    const plan = { config, steps: [] };
    const followUps = decideFollowUps(plan, machine({ ...files, ...state }, 0), systemd);
    expect(followUps.flatMap(({ commands }) => commands)).toEqual([
      'chown -R --no-dereference p2p-update: /var/lib/p2p-update/state',
    ]);
  });
});
