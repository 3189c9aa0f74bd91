import { createServer } from 'node:net';
import { UpdateError } from '../../lib/errors.ts';
import { findDaemon } from '../../lib/system/daemon-process.ts';
import { addDummyIPv4, readAddresses } from '../doctor/addresses.ts';
import { showUnits } from '../doctor/systemd.ts';
import type { Manager } from '../doctor/manager.ts';
import type { Scheduler } from './arguments.ts';
import type { ServiceStep, SettingsStep, SetupStep } from './plan.ts';
import { dropIn, unitDirectory, wakers } from './scheduler.ts';
import { serfDirectory } from './serf-plan.ts';

const serf = 'serf';
const transmission = 'transmission-daemon';
/** Set-up's file for Debian's init script of Serf. */
export const serfDefaults = '/etc/default/serf';

/** The daemons and units as they are before the steps. */
export interface Running {
  serf: boolean;
  transmission: boolean;
  cron: boolean;
  /** Units that start at boot, and those that are active; null: systemd does not run. */
  units: { enabled: readonly string[]; active: readonly string[] } | null;
}

/** Looks at what runs on this machine. */
export async function readRunning(): Promise<Running> {
  const names = [serf, transmission].map((name) => `${name}.service`).concat(wakers);
  const states = await showUnits(names);
  const named = (accepts: (unit: string) => boolean): string[] => names.filter(accepts);
  return {
    serf: findDaemon(serf, (argv) => argv[1] === 'agent') !== undefined,
    transmission: findDaemon(transmission) !== undefined,
    cron: findDaemon('cron') !== undefined,
    units:
      states === null
        ? null
        : {
            enabled: named((unit) => states.get(unit)?.fileState === 'enabled'),
            active: named((unit) => states.get(unit)?.activeState === 'active'),
          },
  };
}

/**
 * Adds the steps by which the daemons take up what the plan has changed, and start, now and at boot.
 * Transmission is stopped while its settings are written: it writes them itself when it ends.
 *
 * @param isInterrupted an earlier run did not come to its end: what it changed may not have been taken up
 */
export function planServices(
  files: readonly SetupStep[],
  settings: SettingsStep | null,
  running: Running,
  context: { manager: Manager; scheduler: Scheduler; isInterrupted: boolean },
): SetupStep[] {
  const { manager, scheduler, isInterrupted } = context;
  const step = (verb: ServiceStep['verb'], units: readonly string[], why: string): SetupStep[] =>
    units.length === 0 ? [] : [{ kind: 'service', verb, units, why }];
  const written = files.flatMap((each) => (each.kind === 'write-file' ? each.path : []));
  const writes = (prefix: string): boolean => written.some((path) => path.startsWith(prefix));
  const usesUnits = scheduler === 'systemd';
  const managed = usesUnits ? [`${serf}.service`, `${transmission}.service`, ...wakers] : [];
  const edit = settings === null ? [] : [settings];

  if (manager === 'none') return [...edit, ...step('enable', managed, 'starts at boot')];

  const isNewMember = files.some(({ kind }) => kind === 'add-user' || kind === 'add-to-group');
  const hasNewUnits = writes(unitDirectory) || isInterrupted;
  const isSerfStale =
    isNewMember ||
    isInterrupted ||
    writes(`${serfDirectory}/`) ||
    written.includes(dropIn) ||
    writes(serfDefaults);
  const lacking = managed.filter((unit) => running.units?.enabled.includes(unit) === false);
  const idle = wakers.filter((unit) => running.units?.active.includes(unit) === false);
  const stops = settings !== null && running.transmission;
  const starts = stops || !running.transmission;
  return [
    ...(usesUnits && hasNewUnits ? [reload] : []),
    ...step('enable', lacking, 'does not start at boot'),
    ...(stops ? step('stop', [transmission], 'it writes its settings when it ends') : []),
    ...edit,
    ...(starts ? step('start', [transmission], stops ? 'new settings' : 'is down') : []),
    ...(running.serf
      ? isSerfStale
        ? step('restart', [serf], 'its configuration or user changed')
        : []
      : step('start', [serf], 'is down')),
    ...(usesUnits || running.cron ? [] : step('start', ['cron'], 'is down')),
    ...(usesUnits && running.units !== null
      ? hasNewUnits
        ? step('restart', wakers, 'units changed')
        : step('start', idle, 'not active')
      : []),
  ];
}

/** The steps by which Serf's agent stays down, also at the next boot. */
export const serfStaysDown: readonly ServiceStep[] = [
  { kind: 'service', verb: 'stop', units: [serf], why: 'its name is taken' },
  { kind: 'service', verb: 'disable', units: [`${serf}.service`], why: 'its name is taken' },
];

/** Whether a step starts a daemon, anew too. */
export function startsDaemon(steps: readonly SetupStep[]): boolean {
  const isDaemon = (unit: string): boolean => unit === serf || unit === transmission;
  return steps.some(
    (step) => step.kind === 'service' && /start$/.test(step.verb) && step.units.some(isDaemon),
  );
}

const reload: ServiceStep = { kind: 'service', verb: 'reload', units: [], why: 'units changed' };

/**
 * Refuses a port that another program holds, before anything is changed.
 *
 * @param ports by the program that is to have them; of one that runs already none is tried
 * @throws UpdateError `configuration`
 */
export async function requireFreePorts(
  ports: { serf: readonly number[]; transmission: readonly number[] },
  running: Running,
): Promise<void> {
  const wanted = [
    ...(running.serf ? [] : ports.serf.map((port) => ({ port, name: 'Serf' }))),
    ...(running.transmission
      ? []
      : ports.transmission.map((port) => ({ port, name: 'Transmission' }))),
  ];
  for (const { port, name } of wanted)
    if (await isTaken(port))
      throw new UpdateError('configuration', `port ${port}, which ${name} needs, is taken`, {
        hint: `see which program has it (ss -ltnp 'sport = :${port}'), and stop that, or give it another port`,
      });
}

/**
 * Refuses a machine whose addresses keep a daemon from its work, before anything is changed.
 *
 * @param isSerfTold whether Serf's files tell the agent its address; it looks for one by itself otherwise
 * @throws UpdateError `usage`
 */
export function requireAddresses(isSerfTold: boolean, addresses = readAddresses()): void {
  const { reachable, hasPrivate, hasIPv4 } = addresses;
  const refuse = (what: string, hint: string): never => {
    throw new UpdateError('usage', `this machine has ${what}`, { hint });
  };
  if (!isSerfTold && reachable.length === 0)
    refuse('no address', 'connect it to the network of the fleet, then run setup again');
  if (!hasIPv4)
    refuse(
      'no IPv4 address besides 127.0.0.1, and without one Transmission does not serve its RPC',
      `give it one that reaches nobody, at each boot: ${addDummyIPv4}`,
    );
  if (!isSerfTold && !hasPrivate)
    refuse(
      'no private address, and Serf takes no other by itself',
      `run setup again with the one that the fleet reaches: ${reachable.map((each) => `--address ${each}`).join(' or ')}`,
    );
}

function isTaken(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', (error) => {
      resolve('code' in error && error.code === 'EADDRINUSE');
    });
    server.listen({ port, host: '0.0.0.0', exclusive: true }, () => {
      server.close(() => {
        resolve(false);
      });
    });
  });
}
