import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';

/** Settings of our units and those of Serf and Transmission on which a stand-in for systemd acts. */
export interface Unit {
  execStart: string[];
  execStartPre: string[][];
  /** Root without one. */
  user: string | undefined;
  umask: string;
  noNewPrivileges: boolean;
  /** CapabilityBoundingSet= is there, and empty. */
  withoutCapabilities: boolean;
  /** ProtectSystem=strict. */
  readOnlySystem: boolean;
  /** No memory may become executable, so that no just-in-time compiler starts. */
  memoryDenyWriteExecute: boolean;
  readWritePaths: string[];
  stateDirectory: string | undefined;
  stateDirectoryMode: string;
  pathChanged: string[];
}

/**
 * Settings that a stand-in may ignore: they change nothing that a test could see. SystemCallFilter= could,
 * and cannot be had without systemd; `npm run test:machines` has it.
 */
const without = new Set(
  `Description Documentation After Before Type TimeoutStartSec KillMode KillSignal Restart RestartSec
  StartLimitIntervalSec TriggerLimitIntervalSec WantedBy OnBootSec OnUnitInactiveSec AccuracySec
  ExecReload ExecStop Group ProtectHome PrivateTmp PrivateDevices ProtectClock ProtectControlGroups
  ProtectHostname ProtectKernelLogs ProtectKernelModules ProtectKernelTunables LockPersonality
  RestrictNamespaces RestrictRealtime RestrictSUIDSGID RestrictAddressFamilies IPAddressDeny
  IPAddressAllow SystemCallArchitectures SystemCallFilter SystemCallErrorNumber SuccessExitStatus Wants
  DevicePolicy KeyringMode ProtectProc`.split(/\s+/),
);

/**
 * Reads a unit of a machine with its drop-ins, as systemd does: an empty assignment resets a list
 * (systemd.unit(5)). Throws at a key that it does not know, so that no new one goes unnoticed.
 *
 * @param etc the machine's /etc
 */
export function readUnit(etc: string, name: string): Unit {
  const places = [join(etc, 'systemd/system', name), join('/usr/lib/systemd/system', name)];
  const file = places.find((place) => existsSync(place));
  if (file === undefined) throw new Error(`there is no unit ${name}`);
  const dropIns = join(etc, 'systemd/system', `${name}.d`);
  const more = existsSync(dropIns) ? readdirSync(dropIns).map((each) => join(dropIns, each)) : [];
  const values = new Map<string, string[]>();
  for (const line of [file, ...more].flatMap((each) => readFileSync(each, 'utf8').split('\n'))) {
    const [, key = '', value = ''] = /^([A-Za-z]+)=(.*)$/.exec(line) ?? [];
    if (key === '' || without.has(key)) continue;
    values.set(key, value === '' ? [] : [...(values.get(key) ?? []), value]);
  }
  const take = (key: string): string[] | undefined => {
    const found = values.get(key);
    values.delete(key);
    return found;
  };
  const last = (key: string): string | undefined => take(key)?.at(-1);
  const words = (text: string): string[] => text.split(/\s+/).filter((word) => word !== '');
  const isOn = (key: string): boolean => /^(yes|true|on|1)$/.test(last(key) ?? '');
  const bounding = take('CapabilityBoundingSet');
  const unit: Unit = {
    execStart: words(last('ExecStart') ?? ''),
    execStartPre: (take('ExecStartPre') ?? []).map(words),
    user: last('User'),
    umask: last('UMask') ?? '0022',
    noNewPrivileges: isOn('NoNewPrivileges'),
    withoutCapabilities: bounding?.length === 0,
    readOnlySystem: last('ProtectSystem') === 'strict',
    memoryDenyWriteExecute: isOn('MemoryDenyWriteExecute'),
    readWritePaths: (take('ReadWritePaths') ?? []).flatMap(words),
    stateDirectory: last('StateDirectory'),
    stateDirectoryMode: last('StateDirectoryMode') ?? '0755',
    pathChanged: take('PathChanged') ?? [],
  };
  if (values.size > 0) throw new Error(`${name}: ${[...values.keys()].join(', ')}: not known here`);
  return unit;
}
