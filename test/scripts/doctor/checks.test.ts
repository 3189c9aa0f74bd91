import { describe, expect, it } from 'vitest';
import { requiredSettings } from '../../../lib/daemons/transmission/settings.ts';
import type { Check } from '../../../lib/health/check.ts';
import { judgeFleetSoftware, judgePeers } from '../../../scripts/doctor/fleet-checks.ts';
import {
  type HookRun,
  judgeHookRun,
  systemdRunArguments,
} from '../../../scripts/doctor/hook-run.ts';
import { judgePuppet, judgeWakers } from '../../../scripts/doctor/machine-checks.ts';
import { doctorLines, doctorStatus } from '../../../scripts/doctor/report.ts';
import { isRestartLoop, judgeAgent, type SerfAgent } from '../../../scripts/doctor/serf-checks.ts';
import { parseHandler, readSerfConfig } from '../../../scripts/doctor/serf-config.ts';
import {
  judgeEncryption,
  judgeHandlers,
  judgeJoin,
  judgeRpcKey,
  type RpcKey,
} from '../../../scripts/doctor/serf-file-checks.ts';
import { parseUnits, type UnitState } from '../../../scripts/doctor/systemd.ts';
import {
  type DownloadDirectory,
  judgeDaemon,
  judgeDirectory,
  judgeHook,
  judgePort,
  judgeSettings,
  type TransmissionReply,
} from '../../../scripts/doctor/transmission-checks.ts';
import { wakers } from '../../../scripts/setup/scheduler.ts';

/** The verdict and the finding, and whether a command mends it, in one value to compare. */
const told = ({ verdict, what, fix }: Check) => ({ verdict, what, mends: fix.join(' && ') });
const like = (verdict: string, what: RegExp, mends = /^/) => ({
  verdict,
  what: expect.stringMatching(what) as string,
  mends: expect.stringMatching(mends) as string,
});

const unit = (change: Partial<UnitState> = {}): UnitState => ({
  ...{ loadState: 'loaded', activeState: 'active', subState: 'running', fileState: 'enabled' },
  restarts: 0,
  ...change,
});

describe("the check of Serf's agent", () => {
  const sound: SerfAgent = {
    reply: { kind: 'up', isEncrypted: true },
    unit: unit(),
    hasNameConflict: false,
    nodeName: 'pi-01',
    runsAs: 'p2p-update',
    user: 'p2p-update',
  };
  const down = { reply: { kind: 'down', why: 'connection refused' } } as const;

  it.each<[string, Partial<SerfAgent>, ReturnType<typeof like>]>([
    ['up', {}, like('ok', /^answers, runs as p2p-update$/, /^$/)],
    ['up, its process unseen', { runsAs: null }, like('ok', /^answers$/)],
    ['down', down, like('fail', /refused/, /^systemctl enable --now serf && journalctl/)],
    [
      'down without systemd',
      { ...down, unit: null },
      like('fail', /refused/, /^service serf restart$/),
    ],
    ['not let in', { reply: { kind: 'refused', why: 'key' } }, like('fail', /^key$/)],
    [
      'of a name that is taken',
      { ...down, hasNameConflict: true },
      like('fail', /name conflict/, /^editor .* && systemctl restart serf$/),
    ],
    [
      'in a restart loop',
      { ...down, unit: unit({ activeState: 'activating', subState: 'auto-restart', restarts: 7 }) },
      like('fail', /again and again \(7 times/, /^journalctl -u serf -n 20$/),
    ],
    ['often restarted', { unit: unit({ restarts: 3 }) }, like('warn', /restarted 3 times/)],
    [
      'run by root',
      { runsAs: 'root' },
      like(
        'fail',
        /runs as root, and with it every handler/,
        /setup && systemctl daemon-reload && systemctl restart serf$/,
      ),
    ],
    [
      'not started at boot',
      { unit: unit({ fileState: 'disabled' }) },
      like('warn', /does not start at boot/, /^systemctl enable serf$/),
    ],
  ])('judges one that is %s', (_, change, expected) => {
    expect(told(judgeAgent({ ...sound, ...change }))).toEqual(expected);
  });

  it.each<[Partial<UnitState> | null, boolean]>([
    [null, false],
    [{}, false],
    [{ restarts: 9 }, false],
    [{ restarts: 3, activeState: 'failed', subState: 'failed' }, true],
    [{ restarts: 1, activeState: 'activating', subState: 'auto-restart' }, true],
    [{ restarts: 0, activeState: 'inactive', subState: 'dead' }, false],
  ])('tells a restart loop from %j: %s', (state, isLoop) => {
    expect(isRestartLoop(state && unit(state))).toBe(isLoop);
  });
});

describe("Serf's files", () => {
  const read = (texts: Record<string, unknown>) => {
    const all = new Map(
      Object.entries(texts).map(([name, value]) => [
        `/etc/serf/${name}`,
        value instanceof Error || typeof value === 'string' ? value : JSON.stringify(value),
      ]),
    );
    return readSerfConfig({
      list: () => Object.keys(texts).sort(),
      read: (path) => {
        const text = all.get(path);
        if (text instanceof Error) throw text;
        return text;
      },
    });
  };
  const closed = new Error('EACCES');
  const wanted = [
    { event: 'user:update', program: '/opt/p2p-update/dist/handlers/update.cjs' },
    { event: 'member-join', program: '/opt/p2p-update/dist/handlers/member-join.cjs' },
  ];
  const entries = wanted.map(({ event, program }) => `${event}=${program}`);
  const systemd = { sample: '/opt/p2p-update/serf.json', manager: 'systemd' as const };

  it.each<[string, Record<string, unknown>, ReturnType<typeof like>]>([
    [
      'all are there',
      { 'a.json': { event_handlers: entries } },
      like('ok', /^user:update, member-join in/),
    ],
    [
      'they are in two files',
      { 'a.json': { event_handlers: [entries[0]] }, 'b.json': { event_handlers: [entries[1]] } },
      like('ok', /^/),
    ],
    [
      'there is none',
      {},
      like('fail', /^no handler is registered/, /^install .* && systemctl restart serf$/),
    ],
    [
      'one is missing',
      { 'a.json': { event_handlers: [entries[0]] } },
      like('fail', /^no handler for member-join/, /reload serf$/),
    ],
    [
      'a file is no JSON',
      { 'a.json': '// comment' },
      like('fail', /a\.json is not a JSON object/, /^editor \/etc\/serf\/a\.json/),
    ],
    [
      'one leads nowhere',
      { 'a.json': { event_handlers: ['user:update=/gone', entries[1]] } },
      like('fail', /\/gone, is not a program/),
    ],
    [
      'one is a wrapper',
      { 'a.json': { event_handlers: ["user:update='/usr/local/bin/my wrapper'", entries[1]] } },
      like('warn', /is handled by \/usr\/local\/bin\/my wrapper, not/),
    ],
    ['all files are closed', { 'a.json': closed }, like('skipped', /^needs root/)],
    [
      'the missing one may be in a closed file',
      { 'a.json': { event_handlers: [entries[0]] }, 'b.json': closed },
      like('skipped', /^needs root/),
    ],
  ])('have handlers: %s', (_, texts, expected) => {
    expect(told(judgeHandlers(read(texts), wanted, (path) => path !== '/gone', systemd))).toEqual(
      expected,
    );
  });

  it.each<[string, string]>([
    ['user:update=/a/b.cjs', '/a/b.cjs'],
    ["user:update='/a b/c.cjs' --more", '/a b/c.cjs'],
    ["user:update='/a'\\''b/c.cjs'", "/a'b/c.cjs"],
    ['user:update="/a b"/c', '/a b/c'],
  ])('name the program as a shell reads it: %s', (text, program) => {
    expect(parseHandler(text)).toEqual({ event: 'user:update', program });
  });

  it.each<[string, Record<string, unknown>, number | null, ReturnType<typeof like>]>([
    ['others are alive', { 'a.json': { retry_join: ['b'] } }, 2, like('ok', /^2 members alive$/)],
    ['nothing runs', { 'a.json': { retry_join: ['b'] } }, null, like('ok', /^b$/)],
    [
      'it is alone',
      { 'a.json': { retry_join: ['b', 'self:7946'] } },
      1,
      like('fail', /^alone: none of b is/),
    ],
    [
      'it is the only one',
      { 'a.json': { retry_join: ['self'] } },
      1,
      like('ok', /^no other node is named$/),
    ],
    [
      'of the sample, and alone',
      { 'a.json': { retry_join: ['node-1.example.net'] } },
      1,
      like(
        'fail',
        /names of the sample, node-1/,
        /^editor \/etc\/serf\/a\.json && systemctl restart serf$/,
      ),
    ],
    [
      'of the sample, in a fleet',
      { 'a.json': { retry_join: ['node-1.example.net'] } },
      3,
      like('warn', /names of the sample/),
    ],
    ['none, in a fleet', { 'a.json': {} }, 3, like('warn', /names no other node/)],
    [
      'none, in a fleet that the snapshot names',
      { 'a.json': { snapshot_path: '/var/lib/serf/serf.snapshot' } },
      3,
      like('ok', /^3 members alive, which the snapshot names$/),
    ],
    ['no file', {}, null, like('skipped', /^there is no configuration/)],
    ['closed', { 'a.json': closed }, 2, like('skipped', /^needs root/)],
  ])('have members to join: %s', (_, texts, alive, expected) => {
    expect(told(judgeJoin(read(texts), alive, ['self'], 'systemd'))).toEqual(expected);
  });

  const key = { 'k.json': { encrypt_key: 'k' } };
  it.each<[string, Record<string, unknown>, boolean | null, ReturnType<typeof like>]>([
    ['the agent says so', {}, true, like('ok', /^gossip is encrypted$/)],
    ['the files say so', key, null, like('ok', /^encrypt_key is set$/)],
    [
      'the agent has not taken up the key',
      key,
      false,
      like('fail', /without its encrypt_key/, /^systemctl restart serf$/),
    ],
    [
      'there is no key',
      { 'a.json': {} },
      false,
      like(
        'fail',
        /^gossip is not encrypted/,
        /^install .*20-p2p-update-keys\.json && editor .*20-p2p-update-keys/,
      ),
    ],
    ['the key may be in a closed file', { 'a.json': closed }, null, like('skipped', /^needs root/)],
  ])('encrypt: %s', (_, texts, isEncrypted, expected) => {
    expect(told(judgeEncryption(read(texts), isEncrypted, 'systemd'))).toEqual(expected);
  });

  const file = '/etc/p2p-update/serf-rpc.key';
  it.each<[RpcKey, ReturnType<typeof like>]>([
    [{ file, found: 'readable', agent: 'same' }, like('ok', /^the same in/, /^$/)],
    [{ file, found: 'readable', agent: 'unknown' }, like('ok', /can be read$/)],
    [
      { file, found: 'readable', agent: 'differs' },
      like('fail', /differ$/, /^editor .*serf-rpc\.key && /),
    ],
    [
      { file, found: 'readable', agent: 'none' },
      like('fail', /has no rpc_auth/, /^editor .*20-p2p-update-keys\.json && /),
    ],
    [
      { file, found: 'missing', agent: 'unknown' },
      like('fail', /is missing$/, /^install -m 640 -g p2p-update/),
    ],
    [
      { file, found: 'not by the node', agent: 'same' },
      like('fail', /cannot be read by p2p-update/, /^chown root:p2p-update .* && chmod 640/),
    ],
    [{ file, found: 'open to all', agent: 'same' }, like('fail', /by every user$/, /chmod 640/)],
    [{ file, found: 'unknown', agent: 'unknown' }, like('skipped', /^needs root/)],
    [
      { file: null, found: 'missing', agent: 'none' },
      like('fail', /every local user can send events$/),
    ],
    [
      { file: null, found: 'missing', agent: 'same' },
      like('fail', /and \S+ no serf\.rpcAuthFile$/),
    ],
    [{ file: null, found: 'missing', agent: 'unknown' }, like('skipped', /^needs root/)],
  ])('have the RPC key on both sides: %j', (rpcKey, expected) => {
    const context = {
      directory: '/etc/serf',
      keysFile: '/etc/serf/20-p2p-update-keys.json',
      user: 'p2p-update',
    };
    const more = { configFile: '/etc/p2p-update/config.json', manager: 'systemd' as const };
    expect(told(judgeRpcKey(rpcKey, { ...context, ...more }))).toEqual(expected);
  });
});

describe('the checks of Transmission', () => {
  const loginFile = '/etc/p2p-update/transmission.json';
  const settingsFile = '/etc/transmission-daemon/settings.json';
  const up: TransmissionReply = { kind: 'up', session: { version: '3.00' } };

  it.each<
    [
      string,
      TransmissionReply,
      { unit?: UnitState | null; loginFile?: null; hasIPv4?: boolean },
      ReturnType<typeof like>,
    ]
  >([
    ['is up', up, {}, like('ok', /^version 3\.00, takes the password$/, /^$/)],
    ['asks for no password', up, { loginFile: null }, like('warn', /asks for no password/)],
    [
      'is not started at boot',
      up,
      { unit: unit({ fileState: 'disabled' }) },
      like('warn', /at boot/, /^systemctl enable/),
    ],
    [
      'has another password',
      { kind: 'password', why: '' },
      {},
      like(
        'fail',
        /settings\.json, \/etc\/p2p-update\/transmission\.json here$/,
        /^systemctl stop transmission-daemon && editor .* && editor .* && systemctl start/,
      ),
    ],
    ['is locked', { kind: 'locked', why: '403' }, {}, like('fail', /403/, /^systemctl restart/)],
    [
      'has no login',
      { kind: 'login file', why: 'missing' },
      {},
      like('fail', /missing/, /^chown root:p2p-update .*chmod 640/),
    ],
    [
      'is down',
      { kind: 'down', why: 'refused' },
      {},
      like('fail', /refused/, /^systemctl enable --now transmission-daemon && journalctl/),
    ],
    [
      'is down without systemd',
      { kind: 'down', why: 'refused' },
      { unit: null },
      like('fail', /refused/, /systemctl start transmission-daemon$/),
    ],
    [
      'is down where there is no IPv4',
      { kind: 'down', why: 'refused' },
      { hasIPv4: false },
      like(
        'fail',
        /needs an IPv4 address/,
        /^ip addr add 192\.0\.0\.8\/32 dev lo && systemctl restart/,
      ),
    ],
  ])('judge a daemon that %s', (_, reply, change, expected) => {
    const daemon = {
      unit: unit(),
      manager: 'systemd' as const,
      hasIPv4: true,
      settingsFile,
      loginFile,
      ...change,
    };
    expect(told(judgeDaemon({ reply, ...daemon }))).toEqual(expected);
  });

  it('name the settings that are wrong', () => {
    expect(told(judgeSettings(requiredSettings))).toEqual(like('ok', /^\d as they have to be$/));
    const session = { ...requiredSettings, 'dht-enabled': true };
    expect(told(judgeSettings(session))).toEqual(
      like('warn', /^dht-enabled is not false/, /reconcile$/),
    );
  });

  it.each<[string, Parameters<typeof judgeHook>[0], ReturnType<typeof like>]>([
    ['right', { isEnabled: true, file: '/ours' }, like('ok', /^\/ours$/)],
    ['of an earlier set-up', { isEnabled: true, file: '/older' }, like('ok', /^\/older$/)],
    ['off', { isEnabled: false, file: '/ours' }, like('fail', /is false/, /editor/)],
    [
      'another one',
      { isEnabled: true, file: '/there' },
      like('warn', /^the hook is \/there, not \/ours/),
    ],
    ['gone', { isEnabled: true, file: '/gone' }, like('fail', /^the hook \/gone does not exist/)],
    ['closed', undefined, like('skipped', /^needs root/)],
  ])('judge a hook that is %s', (_, hook, expected) => {
    const context = { settingsFile, manager: 'systemd' as const };
    expect(told(judgeHook(hook, ['/ours', '/older'], (path) => path !== '/gone', context))).toEqual(
      expected,
    );
  });

  const end = (status: number | null, kind: 'ended' | 'timed-out' | 'missing' = 'ended') => ({
    ...{ kind, status, stdout: '' },
    stderr: 'hook: error: why\nmore',
  });
  const run = (status: number | null, how: HookRun['how'] = 'as the unit') => ({
    ...{ program: '/hook', how, end: end(status) },
  });
  it.each<[string, Parameters<typeof judgeHookRun>[0], ReturnType<typeof like>]>([
    [
      'refuses',
      run(64),
      like('ok', /^runs under the restrictions of transmission-daemon\.service$/),
    ],
    [
      'refuses, on a machine without D-Bus',
      run(64, 'without a bus'),
      like('skipped', /runs as the daemon's user.* need D-Bus/),
    ],
    ['refuses as malformed', run(65, 'as its user'), like('ok', /^runs as the daemon's user$/)],
    [
      'is trapped',
      run(133),
      like(
        'fail',
        /signal 5 under the restrictions.*MemoryDenyWriteExecute/,
        /MemoryDenyWriteExecute=no.*daemon-reload && systemctl restart transmission-daemon$/,
      ),
    ],
    ['is aborted', run(134, 'as its user'), like('fail', /is ended by signal 6$/)],
    [
      'has no run bit',
      run(126),
      like('fail', /cannot be run by the daemon's user/, /^chmod a\+rx \/hook$/),
    ],
    ['has no interpreter', run(127), like('fail', /exit status 127/)],
    ['is not started by systemd', run(203), like('fail', /exit status 203/)],
    ['cannot read its configuration', run(78), like('fail', /ends with 78.*: hook: error: why$/)],
    ['takes anything', run(0), like('warn', /ends with 0 without a torrent/)],
    [
      'hangs',
      { ...run(null), end: end(null, 'timed-out') },
      like('fail', /does not end within 15 s/),
    ],
    ['has no setpriv', { ...run(null), end: end(null, 'missing') }, like('skipped', /setpriv/)],
    ['is not for this user to run', undefined, like('skipped', /^needs root/)],
    ['is not there', null, like('skipped', /^no hook/)],
  ])('judge a hook that %s', (_, hookRun, expected) => {
    expect(told(judgeHookRun(hookRun))).toEqual(expected);
  });

  it('run the hook under the restrictions that systemd tells, and none that it does not take back', () => {
    const shown = [
      ...['User=debian-transmission', 'MemoryDenyWriteExecute=yes', 'NoNewPrivileges=yes'],
      ...[
        'SystemCallFilter=read write',
        'RestrictAddressFamilies=~',
        'SystemCallErrorNumber=2147483646',
      ],
      ...['CapabilityBoundingSet=', 'ReadOnlyPaths=', 'ProtectSystem=yes'],
    ].join('\n');
    const argv = systemdRunArguments(shown, '/a hook', ['P2P_UPDATE_CONFIG=/c']);
    expect(argv.filter((word) => word.startsWith('--property=')).sort()).toEqual(
      [
        ...['User=debian-transmission', 'RuntimeMaxSec=15', 'MemoryDenyWriteExecute=yes'],
        ...['NoNewPrivileges=yes', 'SystemCallFilter=read write', 'CapabilityBoundingSet='],
        'ProtectSystem=yes',
      ]
        .map((each) => `--property=${each}`)
        .sort(),
    );
    expect(argv).toContain('--setenv=P2P_UPDATE_CONFIG=/c');
    expect(argv.slice(-6)).toEqual(['--', '/bin/sh', '-c', '"$1"; exit $?', 'sh', '/a hook']);
  });

  const sound: DownloadDirectory = {
    ...{ wanted: '/d', daemons: '/d', found: { isWritable: true }, isMember: true },
    user: 'debian-transmission',
  };
  it.each<[string, Partial<DownloadDirectory>, ReturnType<typeof like>]>([
    ['right', {}, like('ok', /^\/d$/)],
    ['closed to this user', { found: 'closed' }, like('ok', /^\/d$/)],
    [
      'another on the other side',
      { daemons: '/e' },
      like('warn', /^downloadDir is \/d, and download-dir of the daemon \/e$/),
    ],
    ['missing', { found: 'missing' }, like('fail', /does not exist/, /^install -d/)],
    [
      'closed to the daemon',
      { found: { isWritable: false } },
      like('fail', /cannot be written by debian-transmission/, /^chown/),
    ],
    [
      'not for p2p-update',
      { isMember: false },
      like('fail', /not in the group/, /^adduser p2p-update debian-transmission/),
    ],
  ])('judge a download directory that is %s', (_, change, expected) => {
    expect(told(judgeDirectory({ ...sound, ...change }))).toEqual(expected);
  });

  const place = { address: '192.0.2.1', port: 51413, daemons: 51413, hadTorrent: true };
  const serf = { serfFile: '/etc/serf/a.json', manager: 'systemd' as const };
  it.each<[string, Partial<Parameters<typeof judgePort>[0]>, ReturnType<typeof like>]>([
    [
      'answers',
      { reach: 'answered' },
      like('ok', /answers a handshake; a firewall .* cannot be seen/),
    ],
    ['only connects', { reach: 'connected' }, like('warn', /answers no handshake/)],
    [
      'connects, with nothing held',
      { reach: 'connected', hadTorrent: false },
      like('ok', /no torrent to ask for/),
    ],
    [
      'is refused',
      { reach: 'refused' },
      like('fail', /^nothing listens at 192\.0\.2\.1:51413/, /^ss -tlnp/),
    ],
    ['is silent', { reach: 'silent' }, like('fail', /does not answer/)],
    [
      'is another one',
      { daemons: 1234 },
      like(
        'fail',
        /daemon listens on 1234/,
        /^editor \/etc\/serf\/a\.json && systemctl reload serf$/,
      ),
    ],
  ])('judge a port that %s', (_, change, expected) => {
    expect(told(judgePort({ ...place, ...serf, reach: 'answered', ...change }))).toEqual(expected);
  });
});

describe('the checks of the fleet', () => {
  const peer = (name: string, reach: 'answered' | 'connected' | 'refused' | 'silent') => ({
    ...{ name, address: '192.0.2.7', port: 51413, reach },
  });

  it.each<[string, Parameters<typeof judgePeers>, ReturnType<typeof like>]>([
    [
      'answer',
      [[peer('a', 'answered'), peer('b', 'connected')], 9, true],
      like('ok', /^2 of 9 members called, all take connections; 1 answered/),
    ],
    [
      'have nothing to answer',
      [[peer('a', 'connected')], 1, false],
      like('ok', /no torrent to ask for/),
    ],
    ['are not there', [[], 0, true], like('ok', /no other member/)],
    [
      'are partly closed',
      [[peer('a', 'answered'), peer('b', 'silent')], 2, true],
      like(
        'warn',
        /^1 of 2 members cannot be called: b \(192\.0\.2\.7:51413 silent\)$/,
        /^nc -zv 192\.0\.2\.7 51413$/,
      ),
    ],
    [
      'are all closed',
      [[peer('a', 'refused')], 1, true],
      like('fail', /^no member's Transmission can be called/),
    ],
  ])('judge peers that %s', (_, args, expected) => {
    expect(told(judgePeers(...args))).toEqual(expected);
  });

  it.each<[string, Parameters<typeof judgeFleetSoftware>[0], ReturnType<typeof like>]>([
    [
      'one',
      {
        software: new Map([
          ['a', '1'],
          ['b', '1'],
        ]),
        silent: [],
        own: '1',
      },
      like('ok', /^1 on 2 of 2$/),
    ],
    [
      'two',
      {
        software: new Map([
          ['a', '1'],
          ['b', '2'],
        ]),
        silent: [],
        own: '1',
      },
      like('warn', /^2 on b, 1 here$/, /status$/),
    ],
    [
      'unknown on some',
      { software: new Map([['a', '1']]), silent: ['b', 'c'], own: '1' },
      like('warn', /^no answer from b, c$/),
    ],
    ['too late', null, like('warn', /took too long/)],
  ])('judge versions that are %s', (_, answers, expected) => {
    expect(told(judgeFleetSoftware(answers))).toEqual(expected);
  });
});

describe('the checks of the machine', () => {
  const puppet = { command: 'puppet', path: '/usr/bin/puppet', isLocked: false, version: '7.23.0' };

  it.each<[string, Partial<Parameters<typeof judgePuppet>[0]>, ReturnType<typeof like>]>([
    ['new enough', {}, like('ok', /^version 7\.23\.0$/)],
    [
      'too old',
      { version: '5.5.22' },
      like('fail', /^version 5\.5\.22 .*7 or newer/, /^apt-get install puppet-agent$/),
    ],
    ['missing', { path: null }, like('fail', /^there is no puppet$/)],
    ['broken', { version: null }, like('fail', /does not run$/)],
    [
      'locked',
      { command: '/opt/puppet', isLocked: true, path: null },
      like('fail', /mode forbids/, /^chmod 755 \/opt\/puppet$/),
    ],
  ])('judge a Puppet that is %s', (_, change, expected) => {
    expect(told(judgePuppet({ ...puppet, ...change }))).toEqual(expected);
  });

  const units = (change: Partial<UnitState> = {}) =>
    new Map(wakers.map((name) => [name, unit(change)]));
  const base = {
    trigger: 'spool' as const,
    units: null,
    hasUnitFiles: false,
    hasCronFile: false,
    isCronRunning: false,
  };
  it.each<[string, Partial<Parameters<typeof judgeWakers>[0]>, ReturnType<typeof like>]>([
    ['units', { units: units() }, like('ok', /^4 active and enabled$/)],
    [
      'units that are not active',
      { units: units({ activeState: 'inactive' }) },
      like('fail', /advance\.path inactive/, /systemctl enable --now p2p-update-advance\.path/),
    ],
    [
      'units that are not enabled',
      { units: units({ fileState: 'disabled' }) },
      like('fail', /not enabled/),
    ],
    ['no units', { units: new Map() }, like('fail', /missing/, /setup && systemctl daemon-reload/)],
    [
      'units and cron',
      { units: units(), hasCronFile: true },
      like('warn', /same work again/, /^rm \/etc\/cron\.d/),
    ],
    ['cron', { hasCronFile: true, isCronRunning: true }, like('ok', /^cron runs/)],
    [
      'a cron that is down',
      { hasCronFile: true },
      like('fail', /cron does not run/, /^service cron start$/),
    ],
    [
      'units without systemd',
      { hasUnitFiles: true },
      like('warn', /systemd does not run here/, /setup --cron$/),
    ],
    ['nothing', {}, like('fail', /^neither units nor cron/)],
    ['handlers', { trigger: 'spawn' }, like('ok', /the handlers start/)],
  ])('judge a machine with %s', (_, change, expected) => {
    expect(told(judgeWakers({ ...base, ...change }))).toEqual(expected);
  });

  it('read what systemctl shows of several units', () => {
    const shown = [
      'Id=a.service',
      'LoadState=loaded',
      'ActiveState=activating',
      'SubState=auto-restart',
    ];
    const text = [
      ...shown,
      'UnitFileState=enabled',
      'NRestarts=12',
      '',
      'Id=b.timer',
      'LoadState=not-found',
      '',
    ];
    expect([...parseUnits(text.join('\n'))]).toEqual([
      [
        'a.service',
        {
          loadState: 'loaded',
          activeState: 'activating',
          subState: 'auto-restart',
          fileState: 'enabled',
          restarts: 12,
        },
      ],
      [
        'b.timer',
        { loadState: 'not-found', activeState: '', subState: '', fileState: '', restarts: 0 },
      ],
    ]);
  });
});

describe('the report', () => {
  const check = (verdict: Check['verdict'], ...fix: string[]): Check => ({
    ...{ id: 'x', title: 'title', verdict, what: 'it is\u001b so', fix },
  });

  it.each<[Check['verdict'][], number]>([
    [['ok', 'skipped'], 0],
    [['ok', 'warn'], 1],
    [['warn', 'fail', 'ok'], 2],
  ])('has for %j the exit status %d', (verdicts, status) => {
    expect(doctorStatus(verdicts.map((verdict) => check(verdict)))).toBe(status);
  });

  it('has a line a check that ends in the commands, and one for all; ASCII', () => {
    expect(doctorLines([check('ok'), check('fail', 'a', 'b'), check('skipped')])).toEqual([
      'ok    title  it is? so',
      'FAIL  title  it is? so: a && b',
      'skip  title  it is? so',
      '1 ok, 0 warn, 1 FAIL, 1 skipped',
    ]);
  });
});
