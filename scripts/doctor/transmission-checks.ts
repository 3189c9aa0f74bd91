import { commandHint, shellCommand } from '../../lib/command-hint.ts';
import { requiredSettings } from '../../lib/daemons/transmission/settings.ts';
import { type Check, checkOf } from '../../lib/health/check.ts';
import { nodeUser, transmissionUser } from '../../lib/state/layout.ts';
import { addDummyIPv4 } from './addresses.ts';
import type { Reach } from './handshake.ts';
import { manage, type Manager } from './manager.ts';
import { portCommand } from './serf-checks.ts';
import type { UnitState } from './systemd.ts';

/** Answer of the daemon to the RPC. */
export type TransmissionReply =
  | { kind: 'up'; session: Readonly<Record<string, unknown>> }
  | { kind: 'password' | 'locked' | 'login file' | 'down'; why: string };

export interface TransmissionDaemon {
  reply: TransmissionReply;
  /** null: systemd does not run here. */
  unit: UnitState | null;
  manager: Manager;
  /** Whether this machine has an IPv4 address besides its loopback's. */
  hasIPv4: boolean;
  /** The daemon's settings.json. */
  settingsFile: string;
  /** transmission.json of p2p-update; null: none is configured. */
  loginFile: string | null;
}

const service = 'transmission-daemon';

const daemonCheck = checkOf('transmission-daemon', 'Transmission');

/** Judges whether the daemon is up, and takes our password. */
export function judgeDaemon({
  reply,
  unit,
  manager,
  hasIPv4,
  settingsFile,
  loginFile,
}: TransmissionDaemon): Check {
  const { ok, warn, fail } = daemonCheck;
  // The daemon writes its settings when it ends: an edit while it runs is lost.
  const edit = [
    ...manage(manager, 'stop', service),
    ...(loginFile === null ? [] : [shellCommand('editor', loginFile)]),
    shellCommand('editor', settingsFile),
    ...manage(manager, 'start', service),
  ];
  switch (reply.kind) {
    case 'password':
      return fail(
        `the password differs (401): rpc-password in ${settingsFile}, ${loginFile ?? 'none'} here`,
        ...edit,
      );
    case 'locked':
      return fail(reply.why, ...manage(manager, 'restart', service));
    case 'login file':
      return fail(
        reply.why,
        ...(loginFile === null
          ? []
          : [
              shellCommand('chown', `root:${nodeUser}`, loginFile),
              shellCommand('chmod', '640', loginFile),
              shellCommand('editor', loginFile),
            ]),
      );
    case 'down':
      if (!hasIPv4)
        return fail(
          `${reply.why}; its RPC needs an IPv4 address besides 127.0.0.1 on this machine`,
          addDummyIPv4,
          ...manage(manager, 'restart', service),
        );
      return fail(
        reply.why,
        ...(unit === null
          ? manage(manager, 'start', service)
          : [`systemctl enable --now ${service}`, `journalctl -u ${service} -n 20`]),
      );
    case 'up': {
      const version = String(reply.session['version']).slice(0, 40);
      if (loginFile === null)
        return warn(`version ${version}; the RPC asks for no password`, ...edit);
      if (unit?.fileState === 'disabled')
        return warn(`version ${version}; it does not start at boot`, `systemctl enable ${service}`);
      return ok(`version ${version}, takes the password`);
    }
  }
}

const settingsCheck = checkOf('transmission-settings', 'Transmission settings');

/** Judges the settings that a swarm of updates needs. */
export function judgeSettings(session: Readonly<Record<string, unknown>>): Check {
  const wrong = Object.entries(requiredSettings).filter(([name, value]) => session[name] !== value);
  return wrong.length === 0
    ? settingsCheck.ok(`${Object.keys(requiredSettings).length} as they have to be`)
    : settingsCheck.warn(
        `${wrong.map(([name, value]) => `${name} is not ${String(value)}`).join(', ')}: advance sets them`,
        commandHint('reconcile'),
      );
}

const hookCheck = checkOf('transmission-hook', 'Transmission hook');

/** The hook as the daemon has it. */
export interface HookSetting {
  isEnabled: boolean;
  file: string;
}

/**
 * Judges the setting of the hook.
 *
 * @param hook undefined: the settings are closed to this user
 * @param hooks paths of the hooks of this installation, the best one first
 * @param isThere whether a path exists
 */
export function judgeHook(
  hook: HookSetting | undefined,
  hooks: readonly string[],
  isThere: (path: string) => boolean,
  { settingsFile, manager }: { settingsFile: string; manager: Manager },
): Check {
  const { ok, warn, fail, skipped } = hookCheck;
  if (hook === undefined) return skipped(`needs root: ${settingsFile} is closed to this user`);
  const edit = [
    ...manage(manager, 'stop', service),
    shellCommand('editor', settingsFile),
    ...manage(manager, 'start', service),
  ];
  const wanted = hooks[0] ?? '';
  const late = 'finished downloads are noticed up to a minute late';
  if (!hook.isEnabled)
    return fail(`script-torrent-done-enabled is false: ${late}; the hook is ${wanted}`, ...edit);
  if (hooks.includes(hook.file)) return ok(hook.file);
  return isThere(hook.file)
    ? warn(`the hook is ${hook.file}, not ${wanted}: does it start that at its end?`, ...edit)
    : fail(`the hook ${hook.file} does not exist: ${late}; it is ${wanted}`, ...edit);
}

const directoryCheck = checkOf('transmission-directory', 'download directory');

/** The download directory on both sides, and its rights. */
export interface DownloadDirectory {
  /** config.json. */
  wanted: string;
  /** settings.json, by RPC. */
  daemons: unknown;
  found: 'missing' | 'closed' | { isWritable: boolean };
  /** Whether p2p-update's user is in the daemon's group; null where one user does all. */
  isMember: boolean | null;
  /** Name of the daemon's user. */
  user: string;
}

/** Judges the download directory. */
export function judgeDirectory(directory: DownloadDirectory): Check {
  const { ok, warn, fail } = directoryCheck;
  const { wanted, daemons, found, isMember, user } = directory;
  const make = shellCommand('install', '-d', '-m', '2775', '-o', user, '-g', user, wanted);
  if (isMember === false)
    return fail(
      `${nodeUser} is not in the group ${transmissionUser}`,
      `adduser ${nodeUser} ${transmissionUser}`,
      'systemctl restart serf',
    );
  if (found === 'missing') return fail(`${wanted} does not exist`, make);
  if (typeof found === 'object' && !found.isWritable)
    return fail(`${wanted} cannot be written by ${user}`, shellCommand('chown', user, wanted));
  if (daemons !== wanted)
    return warn(
      `downloadDir is ${wanted}, and download-dir of the daemon ${String(daemons)}`,
      'editor /etc/p2p-update/config.json',
    );
  return ok(wanted);
}

const portCheck = checkOf('transmission-port', 'Transmission port');

/** The port of this node's Transmission, as the members know it. */
export interface OwnPort {
  /** The address that members are given, with the tag `bt`. */
  address: string;
  port: number;
  /** The daemon's own word. */
  daemons: unknown;
  reach: Reach;
  /** Whether the call offered an info hash that the daemon holds. */
  hadTorrent: boolean;
  /** Serf's file with the tag, and the starter of its agent. */
  serfFile: string;
  manager: Manager;
}

/** Judges the port; calls from this machine pass no firewall. */
export function judgePort(own: OwnPort): Check {
  const { address, port, daemons, reach, hadTorrent, serfFile, manager } = own;
  const { ok, warn, fail } = portCheck;
  const place = `${address}:${port}`;
  if (daemons !== port)
    return fail(
      `members call ${place} (Serf's tag bt), and the daemon listens on ${String(daemons)} (peer-port)`,
      shellCommand('editor', serfFile),
      ...manage(manager, 'reload', 'serf'),
    );
  const firewall = 'a firewall in front of this node cannot be seen from here';
  switch (reach) {
    case 'answered':
      return ok(`${place} answers a handshake; ${firewall}`);
    case 'connected':
      return hadTorrent
        ? warn(`${place} takes connections, and answers no handshake`, portCommand(port))
        : ok(`${place} takes connections (no torrent to ask for yet); ${firewall}`);
    case 'refused':
      return fail(`nothing listens at ${place}, where members call`, portCommand(port));
    case 'silent':
      return fail(`${place}, where members call, does not answer: a firewall?`, 'nft list ruleset');
  }
}
