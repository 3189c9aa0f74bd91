import { shellCommand } from '../../lib/command-hint.ts';
import { type Check, checkOf } from '../../lib/health/check.ts';
import { transmissionUser } from '../../lib/state/layout.ts';
import { type CommandEnd, tryCommand } from '../../lib/system/try-command.ts';
import { isSystemdRunning, parseProperties } from './systemd.ts';

/** A trial run of Transmission's hook, without a torrent. */
export interface HookRun {
  program: string;
  /** Whether the unit's own restrictions held; without a bus systemd-run cannot set them. */
  how: 'as the unit' | 'as its user' | 'without a bus';
  end: CommandEnd;
}

const timeoutMs = 15_000;
const path = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
const unit = 'transmission-daemon';
const maxErrno = 4095;

/**
 * Restrictions of systemd.exec(5) that decide what a child of the daemon may do, under names by which
 * `systemctl show` tells them and `systemd-run --property=` takes them.
 */
const restrictions = [
  ...['MemoryDenyWriteExecute', 'NoNewPrivileges', 'SystemCallFilter', 'SystemCallArchitectures'],
  ...['SystemCallErrorNumber', 'LockPersonality', 'RestrictRealtime', 'RestrictSUIDSGID'],
  ...['RestrictAddressFamilies', 'CapabilityBoundingSet', 'DevicePolicy', 'PrivateDevices'],
  ...['PrivateTmp', 'ProtectClock', 'ProtectControlGroups', 'ProtectHome', 'ProtectHostname'],
  ...['ProtectKernelLogs', 'ProtectKernelModules', 'ProtectKernelTunables', 'ProtectProc'],
  ...['ProcSubset', 'ProtectSystem', 'ReadOnlyPaths', 'ReadWritePaths', 'InaccessiblePaths'],
  ...['UMask', 'LimitNPROC', 'LimitAS', 'LimitNOFILE'],
];

/** The arguments of systemd-run for a program under the unit's restrictions, from `systemctl show`. */
export function systemdRunArguments(
  shown: string,
  program: string,
  env: readonly string[],
): string[] {
  const values = parseProperties(shown);
  const set = (name: string): string[] => {
    const value = values.get(name);
    // An unset list is printed as nothing, or as a list of nothing that is denied.
    if (value === undefined || value === '' || value === '~') return [];
    // The number that stands for an unset one is not taken.
    if (name === 'SystemCallErrorNumber' && Number(value) > maxErrno) return [];
    return [`--property=${name}=${value}`];
  };
  const isCapless =
    values.has('CapabilityBoundingSet') && values.get('CapabilityBoundingSet') === '';
  const user = values.get('User') === '' ? undefined : values.get('User');
  return [
    ...['systemd-run', '--quiet', '--wait', '--pipe', '--collect'],
    `--property=User=${user ?? transmissionUser}`,
    `--property=RuntimeMaxSec=${timeoutMs / 1000}`,
    ...restrictions.flatMap(set),
    // Empty is a set of its own here: no capability at all.
    ...(isCapless ? ['--property=CapabilityBoundingSet='] : []),
    ...env.map((each) => `--setenv=${each}`),
    // systemd-run does not pass a signal on; the shell's exit status for one it does.
    ...['--', '/bin/sh', '-c', '"$1"; exit $?', 'sh', program],
  ];
}

/**
 * Runs the hook as its daemon would, but without a torrent: it has to refuse that, and changes nothing.
 *
 * @param user uid that the daemon runs as
 * @param configFile P2P_UPDATE_CONFIG of the daemon, undefined without one
 * @returns undefined when this user may not run it as the daemon's
 */
export async function tryHook(
  program: string,
  user: { uid: number; gid: number } | undefined,
  configFile: string | undefined,
): Promise<HookRun | undefined> {
  const env = configFile === undefined ? [] : [`P2P_UPDATE_CONFIG=${configFile}`];
  const isRoot = process.geteuid?.() === 0;
  let how: HookRun['how'] = 'as its user';
  if (isRoot && isSystemdRunning()) {
    const names = ['User', ...restrictions].map((name) => `--property=${name}`);
    const shown = await tryCommand(['systemctl', 'show', ...names, '--', unit], { timeoutMs });
    if (shown.status === 0) {
      const argv = systemdRunArguments(shown.stdout, program, env);
      const end = await tryCommand(argv, { timeoutMs: 20_000 });
      if (!/^Failed to (?:connect to|create) .*\bbus\b/m.test(end.stderr))
        return { program, how: 'as the unit', end };
      how = 'without a bus';
    }
  }
  if (user === undefined || (!isRoot && user.uid !== process.geteuid?.())) return undefined;
  const become = isRoot
    ? [
        ...['setpriv', `--reuid=${user.uid}`, `--regid=${user.gid}`],
        ...[user.uid === 0 ? '--keep-groups' : '--init-groups', '--no-new-privs', '--'],
      ]
    : [];
  const argv = [...become, 'env', '-i', `PATH=${path}`, ...env, program];
  return { program, how, end: await tryCommand(argv, { timeoutMs }) };
}

const { ok, warn, fail, skipped } = checkOf('transmission-hook-run', 'hook can run');

/** Exit statuses of the hook when TR_TORRENT_HASH is missing (sysexits.h): usage, or malformed. */
const refusals = [64, 65];

/**
 * Judges a trial run of the hook.
 *
 * @param run undefined: this user may not make one; null: there is no hook to run
 */
export function judgeHookRun(run: HookRun | undefined | null): Check {
  if (run === null) return skipped('no hook is configured');
  if (run === undefined) return skipped(`needs root: it has to run as ${transmissionUser}`);
  const { program, how, end } = run;
  const { kind, status, stderr } = end;
  const scope = how === 'as the unit' ? ` under the restrictions of ${unit}.service` : '';
  if (kind === 'ended' && status !== null && refusals.includes(status))
    return how === 'without a bus'
      ? skipped(
          "it runs as the daemon's user; the restrictions of its unit need D-Bus to be tried (apt-get install dbus)",
        )
      : ok(`runs${scope === '' ? ` as the daemon's user` : scope}`);
  const open = shellCommand('chmod', 'a+rx', program);
  if (kind === 'missing')
    return skipped('the program that becomes another user is missing: setpriv');
  if (kind === 'timed-out') return fail(`${program} does not end within ${timeoutMs / 1000} s`);
  // The codes of env(1), and of systemd for an execve(2) that failed.
  if (status === 126 || status === 127 || status === 203)
    return fail(`${program} cannot be run by the daemon's user (exit status ${status})`, open);
  if (status !== null && status > 128) {
    const cause = `${program} is ended by signal ${status - 128}${scope}`;
    // V8 writes machine code into memory: SIGTRAP or SIGABRT at its start.
    return how === 'as the unit'
      ? fail(
          `${cause}: does MemoryDenyWriteExecute=true keep its Node from starting?`,
          `mkdir -p /etc/systemd/system/${unit}.service.d`,
          `printf '[Service]\\nMemoryDenyWriteExecute=no\\n' > /etc/systemd/system/${unit}.service.d/p2p-update.conf`,
          'systemctl daemon-reload',
          `systemctl restart ${unit}`,
        )
      : fail(cause, open);
  }
  const said = stderr.trim().split('\n')[0] ?? '';
  if (status === 0)
    return warn(`${program} ends with 0 without a torrent, where the hook of p2p-update refuses`);
  return fail(
    `${program} ends with ${status ?? 'no status'}${scope}${said === '' ? '' : `: ${said}`}`,
    open,
  );
}
