import { createServer } from 'node:net';
import { describe, expect, it } from 'vitest';
import type { Addresses } from '../../../scripts/doctor/addresses.ts';
import type { SettingsStep, SetupStep } from '../../../scripts/setup/plan.ts';
import { wakers } from '../../../scripts/setup/scheduler.ts';
import {
  planServices,
  requireAddresses,
  requireFreePorts,
  type Running,
} from '../../../scripts/setup/services.ts';

const all = ['serf.service', 'transmission-daemon.service', ...wakers];
const up: Running = {
  ...{ serf: true, transmission: true, cron: true },
  units: { enabled: all, active: all },
};
const fresh: Running = {
  ...{ serf: false, transmission: true, cron: false },
  units: { enabled: ['transmission-daemon.service'], active: ['transmission-daemon.service'] },
};
const systemd = { manager: 'systemd', scheduler: 'systemd', isInterrupted: false } as const;
const cron = { manager: 'init', scheduler: 'cron', isInterrupted: false } as const;
const settings: SettingsStep = {
  ...{ kind: 'write-settings', path: '/etc/transmission-daemon/settings.json' },
  ...{ user: 'debian-transmission', text: '{}', old: undefined },
};
const written = (path: string): SetupStep => ({
  ...{ kind: 'write-file', path, text: '', old: '' },
  ownership: { owner: 'root', group: 'root', mode: 0o644 },
});

function brief(steps: readonly SetupStep[]): string[] {
  return steps.map((step) =>
    step.kind === 'service' ? [step.verb, ...step.units].join(' ') : step.kind,
  );
}

describe('planServices', () => {
  it.each<[string, ...Parameters<typeof planServices>, string[]]>([
    ['nothing has changed', [], null, up, systemd, []],
    [
      'the machine is new',
      [written('/etc/systemd/system/p2p-update-apply.path'), written('/etc/serf/10.json')],
      settings,
      fresh,
      systemd,
      [
        'reload',
        `enable serf.service ${wakers.join(' ')}`,
        'stop transmission-daemon',
        'write-settings',
        'start transmission-daemon',
        'start serf',
        `restart ${wakers.join(' ')}`,
      ],
    ],
    [
      'the package has the units, which are idle',
      [],
      null,
      { ...up, units: { enabled: all, active: [] } },
      systemd,
      [`start ${wakers.join(' ')}`],
    ],
    [
      'Serf has another configuration',
      [written('/etc/serf/20.json')],
      null,
      up,
      systemd,
      ['restart serf'],
    ],
    [
      'the user is a new member of a group',
      [{ kind: 'add-to-group', user: 'p2p-update', group: 'debian-transmission' }],
      null,
      up,
      systemd,
      ['restart serf'],
    ],
    [
      'a daemon is down',
      [],
      null,
      { ...up, transmission: false },
      systemd,
      ['start transmission-daemon'],
    ],
    [
      'settings of a daemon that is down change',
      [],
      settings,
      { ...up, transmission: false },
      systemd,
      ['write-settings', 'start transmission-daemon'],
    ],
    [
      'an earlier run was interrupted',
      [],
      null,
      up,
      { ...systemd, isInterrupted: true },
      ['reload', 'restart serf', `restart ${wakers.join(' ')}`],
    ],
    [
      'cron does the work',
      [written('/etc/default/serf')],
      settings,
      { ...up, cron: false, units: null },
      cron,
      [
        'stop transmission-daemon',
        'write-settings',
        'start transmission-daemon',
        'restart serf',
        'start cron',
      ],
    ],
    [
      'it is an image, where nothing can be started',
      [written('/etc/systemd/system/p2p-update-apply.path')],
      settings,
      fresh,
      { ...systemd, manager: 'none' },
      ['write-settings', `enable ${all.join(' ')}`],
    ],
  ])('when %s', (_, files, edit, running, context, wanted) => {
    expect(brief(planServices(files, edit, running, context))).toEqual(wanted);
  });
});

describe('requireFreePorts', () => {
  it('refuses a port of another program, unless the daemon itself runs', async () => {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const address = server.address();
    const port = typeof address === 'object' && address !== null ? address.port : 0;
    const ports = { serf: [port], transmission: [] };
    try {
      await requireFreePorts(ports, up);
      await expect(requireFreePorts(ports, { ...up, serf: false })).rejects.toMatchObject({
        code: 'configuration',
        message: `port ${port}, which Serf needs, is taken`,
      });
    } finally {
      server.close();
    }
    await requireFreePorts(ports, { ...up, serf: false });
  });
});

describe('requireAddresses', () => {
  const sound: Addresses = { reachable: ['10.0.0.1'], hasPrivate: true, hasIPv4: true };

  it.each<[boolean, Addresses]>([
    [false, sound],
    [true, { ...sound, reachable: ['203.0.113.5'], hasPrivate: false }],
    // A fleet of link-local addresses.
    [true, { ...sound, reachable: [], hasPrivate: false }],
  ])('accepts a machine whose Serf is told (%s), and that has %j', (isTold, addresses) => {
    expect(() => {
      requireAddresses(isTold, addresses);
    }).not.toThrow();
  });

  it.each<[boolean, Partial<Addresses>, string]>([
    [
      false,
      { reachable: ['203.0.113.5', '2001:db8::5'], hasPrivate: false },
      '--address 203.0.113.5 or --address 2001:db8::5',
    ],
    [true, { reachable: ['fd00::1'], hasIPv4: false }, 'ip addr add 192.0.0.8/32 dev lo'],
    [false, { reachable: [], hasPrivate: false }, 'connect it to the network'],
  ])('refuses one whose Serf is told (%s), and that has %j: %s', (isTold, change, hint) => {
    expect(() => {
      requireAddresses(isTold, { ...sound, ...change });
    }).toThrow(
      expect.objectContaining({
        code: 'usage',
        hint: expect.stringContaining(hint) as string,
      }) as Error,
    );
  });
});
