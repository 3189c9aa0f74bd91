import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { planSetup, type SetupStep, type SetupWish } from '../../../scripts/setup/plan.ts';
import { formatMode } from '../../../lib/state/layout.ts';
import type { Found, Machine } from '../../../scripts/setup/rules.ts';
import { refusal } from '../../support/run/refusal.ts';

const specification = join(import.meta.dirname, '../../../docs/announcement.md');
const keySet =
  /```text keyset\n([^`]*)```/.exec(readFileSync(specification, 'utf8'))?.[1] ?? 'no example';

const wish: SetupWish = {
  config: {},
  keyFiles: [],
  keySet: null,
  files: ({ stateDir }) => [
    {
      path: '/etc/cron.d/p2p-update',
      ownership: { owner: 'root', group: 'root', mode: 0o644 },
      text: `work in ${stateDir}\n`,
    },
  ],
  directories: {},
};

/** `owner:group mode`, followed by a file's text after `=`, or by a type that is not a directory. */
type Entries = Record<string, string>;

const ids: Record<string, number> = { root: 0, 'debian-transmission': 106, 'p2p-update': 999 };

/** A node that needs nothing. */
const complete: Entries = {
  '/': 'root:root 0755',
  '/etc': 'root:root 0755',
  '/etc/p2p-update': 'root:root 0755',
  '/etc/p2p-update/config.json': 'root:root 0644={}\n',
  '/etc/cron.d': 'root:root 0755',
  '/etc/cron.d/p2p-update': 'root:root 0644=work in /var/lib/p2p-update/state\n',
  '/var': 'root:root 0755',
  '/var/lib': 'root:root 0755',
  '/var/lib/p2p-update': 'root:root 0755',
  '/var/lib/p2p-update/apply': 'root:root 0755',
  '/var/lib/p2p-update/apply/outcomes': 'root:root 0755',
  '/var/lib/p2p-update/apply/keysets': 'root:root 0755',
  '/var/lib/p2p-update/apply/modules': 'root:root 0755',
  '/var/lib/p2p-update/apply/staging': 'root:root 0700',
  '/var/lib/p2p-update/apply/runs': 'root:root 0700',
  '/var/lib/p2p-update/apply/complete': 'root:debian-transmission 0730',
  '/var/lib/p2p-update/files': 'root:root 0755',
  '/var/lib/p2p-update/state': 'p2p-update:p2p-update 0750',
  '/var/lib/p2p-update/state/announcements': 'p2p-update:p2p-update 0750',
  '/var/lib/p2p-update/state/pending': 'p2p-update:p2p-update 0750',
  '/var/lib/p2p-update/state/updates': 'p2p-update:p2p-update 0750',
  '/var/lib/p2p-update/state/torrents': 'p2p-update:p2p-update 0750',
  '/var/lib/p2p-update/state/reseeds': 'p2p-update:p2p-update 0750',
};

function machine(entries: Entries, accounts: Partial<Machine> = {}): Machine {
  const parsed = Object.entries(entries).map(([path, entry]) => {
    const [, owner = '', group = '', mode = '', more = ''] =
      /^([^:]+):(\S+) (\d{4})((?:=| ).*)?$/s.exec(entry) ?? [];
    const [uid, gid] = [ids[owner] ?? 1000, ids[group] ?? 1000];
    const type = more.startsWith('=') ? 'file' : more.trim() || 'directory';
    const found = { type, uid, gid, mode: parseInt(mode, 8) } as Found;
    return [path, { found, text: type === 'file' ? more.slice(1) : undefined }] as const;
  });
  const all = new Map(parsed);
  return {
    users: new Map([
      ['root', { uid: 0, gid: 0 }],
      ['debian-transmission', { uid: 106, gid: 106 }],
      ['p2p-update', { uid: 999, gid: 999 }],
    ]),
    groups: new Map([
      ['root', { gid: 0, members: [] }],
      ['debian-transmission', { gid: 106, members: ['p2p-update'] }],
      ['p2p-update', { gid: 999, members: [] }],
    ]),
    look: (path) => all.get(path)?.found,
    read: (path) => all.get(path)?.text,
    follow: () => undefined,
    isReadOnly: () => false,
    list: (path) =>
      [...all.keys()]
        .filter((each) => each.startsWith(`${path}/`))
        .map((each) => each.slice(path.length + 1))
        .filter((name) => !name.includes('/')),
    ...accounts,
  };
}

function brief(step: SetupStep): string {
  switch (step.kind) {
    case 'add-user':
      return `add-user ${step.user}`;
    case 'add-to-group':
      return `add-to-group ${step.group}`;
    case 'make-link':
    case 'write-settings':
      return `${step.kind} ${step.path}`;
    case 'service':
      return `${step.verb} ${step.units.join(' ')}`;
    default: {
      const { owner, group, mode } = step.ownership;
      return `${step.kind} ${step.path} ${owner}:${group} ${formatMode(mode)}`;
    }
  }
}

const base = '/var/lib/p2p-update';
const without = (...paths: string[]): Entries =>
  Object.fromEntries(Object.entries(complete).filter(([path]) => !paths.includes(path)));
const config = (values: object): Entries => ({
  '/etc/p2p-update/config.json': `root:root 0644=${JSON.stringify(values)}`,
});

describe('planSetup', () => {
  it('does nothing on a node that is complete', () => {
    expect(planSetup(wish, machine(complete)).steps).toEqual([]);
  });

  it('makes everything on a new machine, users first, and parents before children', () => {
    const bare = { '/': 'root:root 0755', '/etc': 'root:root 0755', '/var': 'root:root 0755' };
    const { steps } = planSetup(
      { ...wish, keySet },
      machine(bare, {
        users: new Map([['debian-transmission', { uid: 106, gid: 106 }]]),
        groups: new Map([['debian-transmission', { gid: 106, members: [] }]]),
      }),
    );
    const owned = Object.entries(complete).filter(([path]) => !(path in bare));
    expect(steps.map(brief).sort()).toEqual(
      [
        'add-user p2p-update',
        'add-to-group debian-transmission',
        'write-file /etc/p2p-update/keyset.txt root:root 0644',
        ...owned.map(([path, entry]) => {
          const [ownership] = entry.split('=');
          return `${entry.includes('=') ? 'write-file' : 'make-directory'} ${path} ${ownership ?? ''}`;
        }),
      ].sort(),
    );
    expect(steps.slice(0, 2).map(({ kind }) => kind)).toEqual(['add-user', 'add-to-group']);
    const order = steps.flatMap((step) => ('path' in step ? step.path : []));
    for (const path of order)
      for (const below of order.filter((each) => each.startsWith(`${path}/`)))
        expect(order.indexOf(path)).toBeLessThan(order.indexOf(below));
  });

  it.each<[string, Entries, string[]]>([
    [
      'a state directory that is closed to its group',
      { [`${base}/state`]: 'p2p-update:p2p-update 0700' },
      [`correct ${base}/state p2p-update:p2p-update 0750`],
    ],
    [
      'a state directory of another group',
      { [`${base}/state`]: 'p2p-update:root 0750' },
      [`correct ${base}/state p2p-update:p2p-update 0750`],
    ],
    [
      'a state directory of root',
      { [`${base}/state`]: 'root:root 0755' },
      [`correct ${base}/state p2p-update:p2p-update 0750`],
    ],
    [
      'markers that every user may list and make',
      { [`${base}/apply/complete`]: 'root:root 0777' },
      [`correct ${base}/apply/complete root:debian-transmission 0730`],
    ],
    [
      'an open staging directory',
      { [`${base}/apply/staging`]: 'root:root 0755' },
      [`correct ${base}/apply/staging root:root 0700`],
    ],
    [
      'a parent that p2p-update owns, ours by name',
      { [base]: 'p2p-update:p2p-update 0751' },
      [`correct ${base} root:root 0755`],
    ],
    [
      'a configuration that others may change',
      { '/etc/p2p-update/config.json': 'root:root 0666={}\n' },
      ['correct /etc/p2p-update/config.json root:root 0644'],
    ],
    [
      "Transmission's password open to all",
      { '/etc/p2p-update/transmission.json': 'root:root 0644={}' },
      ['correct /etc/p2p-update/transmission.json root:p2p-update 0640'],
    ],
    [
      'an older cron file',
      { '/etc/cron.d/p2p-update': 'root:root 0644=older\n' },
      ['write-file /etc/cron.d/p2p-update root:root 0644'],
    ],
  ])('repairs %s', (_, changed, steps) => {
    const plan = planSetup(wish, machine({ ...complete, ...changed }));
    expect(plan.steps.map(brief)).toEqual(steps);
  });

  it('takes the directories from the configuration, and makes their parents', () => {
    const entries = {
      ...complete,
      ...config({ applyDir: '/srv/p2p/apply' }),
      '/srv': 'root:root 0755',
    };
    expect(planSetup(wish, machine(entries)).steps.map(brief).slice(0, 3)).toEqual([
      'make-directory /srv/p2p root:root 0755',
      'make-directory /srv/p2p/apply root:root 0755',
      'make-directory /srv/p2p/apply/outcomes root:root 0755',
    ]);
  });

  it('adds name and tags to the configuration, and keeps the rest of it', () => {
    const entries = {
      ...complete,
      ...config({ channels: ['default'], tags: { role: 'web', rack: '3' } }),
    };
    const named = { ...wish, config: { nodeName: 'pi-07', tags: { role: 'db' } } };
    const [step] = planSetup(named, machine(entries)).steps;
    expect(step?.kind === 'write-file' ? JSON.parse(step.text) : step).toEqual({
      channels: ['default'],
      tags: { role: 'db', rack: '3' },
      nodeName: 'pi-07',
    });
    const same = { ...wish, config: { tags: { role: 'web' } } };
    expect(planSetup(same, machine(entries)).steps).toEqual([]);
  });

  const other = keySet.replace('fleet example', 'fleet another');
  const placed = (text: string): Entries => ({
    '/etc/p2p-update/keyset.txt': `root:root 0644=${text}`,
  });
  it('leaves the same key set in place', () => {
    const again = machine({ ...complete, ...placed(keySet) });
    expect(planSetup({ ...wish, keySet }, again).steps).toEqual([]);
  });

  it.each<[string, Entries, Partial<SetupWish>, string, RegExp]>([
    ['another key set in place', placed(other), { keySet }, 'refused', /is another key set than/],
    ['text that is no key set', {}, { keySet: 'keys\n' }, 'malformed', /a key set begins with/],
    ['an empty name', {}, { config: { tags: { role: '' } } }, 'configuration', /tags.role/],
    ['a link in a place of ours', { [base]: 'root:root 0777 link' }, {}, 'configuration', /a link/],
    ['a link above', { '/var/lib': 'root:root 0777 link' }, {}, 'configuration', /symbolic link/],
    ['a parent of others', { '/var': 'alice:alice 0755' }, {}, 'configuration', /\/var can be/],
    ['a parent open to all', { '/': 'root:root 1777' }, {}, 'configuration', /mode 1777/],
    ['a parent open to a group', { '/etc': 'root:alice 0775' }, {}, 'configuration', /mode 0775/],
    [
      'a file in place of a directory',
      { [`${base}/state`]: 'root:root 0644=' },
      {},
      'configuration',
      /must be a directory, but is a file/,
    ],
    [
      'a device in place of the configuration',
      { '/etc/p2p-update/config.json': 'root:root 0644 special file' },
      {},
      'configuration',
      /must be a file, but is a special file/,
    ],
    [
      'an outcome that p2p-update wrote',
      { [`${base}/apply/outcomes/default@1`]: 'p2p-update:p2p-update 0644=' },
      {},
      'configuration',
      /outcomes\/default@1 does not belong to root/,
    ],
    [
      'a key set that p2p-update wrote',
      { [`${base}/apply/keysets/0000000002`]: 'p2p-update:root 0644=' },
      {},
      'configuration',
      /does not belong to root/,
    ],
    [
      "an applyDir in p2p-update's hands",
      config({ applyDir: `${base}/state/apply` }),
      {},
      'configuration',
      /lies in stateDir/,
    ],
    [
      'a path that a unit would misread',
      config({ stateDir: '/srv/%h state' }),
      {},
      'configuration',
      /cannot be written into a unit/,
    ],
    ['an unknown key', config({ stateDirectory: '/x' }), {}, 'configuration', /unknown key/],
  ])('refuses %s', (_, changed, wanted, code, message) => {
    const error = refusal(() =>
      planSetup({ ...wish, ...wanted }, machine({ ...complete, ...changed })),
    );
    expect(error).toMatchObject({ code, message: expect.stringMatching(message) as string });
    expect(error.hint).toMatch(/^[a-z"]/);
  });

  it.each<[string, Partial<Machine>, RegExp]>([
    ['no Transmission', { users: new Map() }, /no user and group debian-transmission/],
    [
      'a p2p-update that is root',
      {
        users: new Map([
          ['debian-transmission', { uid: 106, gid: 106 }],
          ['p2p-update', { uid: 0, gid: 999 }],
        ]),
      },
      /is root/,
    ],
    [
      'a p2p-update in a group of others',
      {
        users: new Map([
          ['debian-transmission', { uid: 106, gid: 106 }],
          ['p2p-update', { uid: 999, gid: 100 }],
        ]),
      },
      /group of its own name/,
    ],
  ])('refuses %s', (_, accounts, message) => {
    const error = refusal(() => planSetup(wish, machine(complete, accounts)));
    expect(error).toMatchObject({
      code: 'configuration',
      message: expect.stringMatching(message) as string,
    });
  });

  it('makes missing directories without correcting others', () => {
    const entries = without(`${base}/state`, `${base}/state/announcements`);
    expect(planSetup(wish, machine(entries)).steps.map(brief)).toEqual([
      `make-directory ${base}/state p2p-update:p2p-update 0750`,
      `make-directory ${base}/state/announcements p2p-update:p2p-update 0750`,
    ]);
  });
});
