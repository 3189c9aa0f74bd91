import { commandHint, shellCommand } from '../../lib/command-hint.ts';
import { type Check, checkOf } from '../../lib/health/check.ts';
import { cronFile, wakers } from '../setup/scheduler.ts';
import type { UnitState } from './systemd.ts';

const puppetCheck = checkOf('puppet', 'Puppet');
const minVersion = 7;

/** Puppet as it was found. */
export interface PuppetProgram {
  /** As configured. */
  command: string;
  /** null: there is none. */
  path: string | null;
  /** Whether the configured path is a file that may not be run. */
  isLocked: boolean;
  /** Output of `puppet --version`; null: it did not run. */
  version: string | null;
}

/** Judges the program that applies updates. */
export function judgePuppet({ command, path, isLocked, version }: PuppetProgram): Check {
  const { ok, fail } = puppetCheck;
  const install = 'apt-get install puppet-agent';
  if (isLocked)
    return fail(
      `${command} cannot be run: its mode forbids it`,
      shellCommand('chmod', '755', command),
    );
  if (path === null) return fail(`there is no ${command}`, install);
  if (version === null)
    return fail(`${path} does not run`, shellCommand(path, '--version'), install);
  const major = /^(\d+)\.\d+/.exec(version)?.[1];
  if (major === undefined || Number(major) < minVersion)
    return fail(`version ${version} at ${path}; ${minVersion} or newer is needed`, install);
  return ok(`version ${version}`);
}

const wakerCheck = checkOf('wakers', 'units');

/** The units that start advance and apply. */
export interface Wakers {
  trigger: 'spool' | 'spawn';
  /** null: systemd does not run here. */
  units: ReadonlyMap<string, UnitState> | null;
  hasUnitFiles: boolean;
  hasCronFile: boolean;
  /** Whether cron runs. */
  isCronRunning: boolean;
}

/** Judges whether something starts advance and apply: systemd, or cron where that does not run. */
export function judgeWakers(input: Wakers): Check {
  const { trigger, units, hasUnitFiles, hasCronFile, isCronRunning } = input;
  const { ok, warn, fail } = wakerCheck;
  if (trigger === 'spawn') return ok('the handlers start the reconciler ("trigger": "spawn")');
  if (units === null) {
    if (!hasCronFile)
      return hasUnitFiles
        ? warn(
            'systemd does not run here, so its units start nothing',
            commandHint('setup', '--cron'),
          )
        : fail('neither units nor cron start the reconciler', commandHint('setup'));
    return isCronRunning
      ? ok(`cron runs ${cronFile}`)
      : fail(`${cronFile} is there, and cron does not run`, 'service cron start');
  }
  const stateOf = (name: string): string => {
    const unit = units.get(name);
    if (unit === undefined || unit.loadState === 'not-found') return 'missing';
    if (unit.activeState !== 'active') return unit.activeState;
    return unit.fileState === 'enabled' ? 'ok' : 'not enabled';
  };
  const bad = wakers
    .map((name) => ({ name, state: stateOf(name) }))
    .filter(({ state }) => state !== 'ok');
  if (bad.length === 0)
    return hasCronFile
      ? warn(`${cronFile} does the same work again`, shellCommand('rm', cronFile))
      : ok(`${wakers.length} active and enabled`);
  const list = bad.map(({ name, state }) => `${name} ${state}`).join(', ');
  const enable = shellCommand('systemctl', 'enable', '--now', ...bad.map(({ name }) => name));
  return fail(
    list,
    ...(bad.some(({ state }) => state === 'missing') ? [commandHint('setup')] : []),
    'systemctl daemon-reload',
    enable,
  );
}
