import { dirname, join } from 'node:path';
import { distDirectory, programFile } from '../../lib/build.ts';
import type { Config } from '../../lib/config.ts';
import { connectSerf, type SerfClient } from '../../lib/daemons/serf/client.ts';
import { isSplit } from '../../lib/health/places.ts';
import { nodeUser } from '../../lib/state/layout.ts';
import { type Accounts, readAccounts } from '../../lib/system/accounts.ts';
import { type DaemonProcess, findDaemon, optionOf } from '../../lib/system/daemon-process.ts';
import { readMachine } from '../setup/machine.ts';
import { detectScheduler, wakers } from '../setup/scheduler.ts';
import { debianPlaces, type FileView } from './file-checks.ts';
import { readSerfConfig, type SerfConfig, serfDirectoryOf } from './serf-config.ts';
import { showUnits, type UnitState } from './systemd.ts';

/** Time-out of one call of a daemon. */
export const maxCallSeconds = 5;

/** This machine as the checks of the daemons see it. */
export interface Context {
  config: Config;
  view: FileView;
  accounts: Accounts;
  isSplit: boolean;
  serf: { process: DaemonProcess | undefined; config: SerfConfig; client: SerfClient };
  transmission: { process: DaemonProcess | undefined };
  /** null: systemd does not run here. */
  units: ReadonlyMap<string, UnitState> | null;
}

/** Reads what the checks have in common; a daemon that is down is part of it. */
export async function readContext(config: Config, configFile: string): Promise<Context> {
  const machine = readMachine('/');
  const accounts = readAccounts();
  const agent = findDaemon('serf', (argv) => argv[1] === 'agent');
  const daemon = findDaemon('transmission-daemon', (argv) => argv.length > 0);
  const split = isSplit(config, accounts);
  const stateOwner = ownerName(config.stateDir, machine, accounts);
  const serfDir = serfDirectoryOf(agent);
  const home = daemon && optionOf(daemon.argv, 'config-dir', 'g');
  const view: FileView = {
    ...{ config, configFile, machine, codeDir: dirname(distDirectory()), root: '/' },
    scheduler: detectScheduler('/', machine),
    program: programFile(),
    user: split ? nodeUser : (stateOwner ?? nodeUser),
    serfDir,
    settingsFile: home === undefined ? debianPlaces.settingsFile : join(home, 'settings.json'),
  };
  const limited = {
    ...config.serf,
    timeoutSeconds: Math.min(config.serf.timeoutSeconds, maxCallSeconds),
  };
  return {
    ...{ config, view, accounts, isSplit: split },
    serf: {
      process: agent,
      config: readSerfConfig(machine, serfDir),
      client: connectSerf(limited),
    },
    transmission: { process: daemon },
    units: await showUnits([...wakers, 'serf.service', 'transmission-daemon.service']),
  };
}

function ownerName(
  path: string,
  { look }: FileView['machine'],
  { users }: Accounts,
): string | undefined {
  try {
    const uid = look(path)?.uid;
    return uid === undefined ? undefined : nameOf(uid, users);
  } catch {
    return undefined;
  }
}

/** Name of a user; its number where it has none. */
export function nameOf(uid: number, users: Accounts['users']): string {
  return [...users].find(([, user]) => user.uid === uid)?.[0] ?? String(uid);
}
