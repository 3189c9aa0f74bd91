import { join } from 'node:path';
import { shellCommand } from '../../lib/command-hint.ts';
import { completionHooks, type Config, defaultConfigFile } from '../../lib/config.ts';
import { type Check, checkOf } from '../../lib/health/check.ts';
import { nodeUser } from '../../lib/state/layout.ts';
import { isRecord } from '../../lib/system/json.ts';
import type { Scheduler } from '../setup/arguments.ts';
import type { Machine } from '../setup/rules.ts';
import { cronFile, unitDirectory, wakers } from '../setup/scheduler.ts';
import { manage, type Manager } from './manager.ts';
import {
  debianSerfDirectory,
  type Handler,
  parseHandler,
  readSerfConfig,
  type SerfConfig,
} from './serf-config.ts';
import {
  judgeEncryption,
  judgeHandlers,
  judgeJoin,
  judgeRpcKey,
  type RpcKey,
} from './serf-file-checks.ts';
import { type HookSetting, judgeHook } from './transmission-checks.ts';

/** A machine, or the image of one, whose files are checked. */
export interface FileView {
  config: Config;
  configFile: string;
  machine: Machine;
  scheduler: Scheduler;
  /** The directory of the code, as the machine sees it. */
  codeDir: string;
  /** `/`, or the image: nothing runs in there. */
  root: string;
  /** The program as its commands name it. */
  program: string;
  /** User of the handlers. */
  user: string;
  serfDir: string;
  /** The settings.json of Transmission. */
  settingsFile: string;
}

/** Where Debian's packages have their files. */
export const debianPlaces = {
  serfDir: debianSerfDirectory,
  settingsFile: '/etc/transmission-daemon/settings.json',
};

export function managerOf({ scheduler, root }: Pick<FileView, 'scheduler' | 'root'>): Manager {
  if (root !== '/') return 'none';
  return scheduler === 'systemd' ? 'systemd' : 'init';
}

/**
 * Checks that need files alone: set-up makes its list of what is left of them, in an image too, and doctor
 * adds what a running node tells besides.
 */
export function fileChecks(view: FileView): Check[] {
  const serf = readSerfConfig(view.machine, view.serfDir);
  return [
    checkKeySetFile(view),
    checkLoginFile(view),
    checkHookSetting(view),
    ...serfFileChecks(view, serf),
    checkTrigger(view.config),
    checkForeignFiles(view),
    ...(view.scheduler === 'systemd' ? [checkWakerLinks(view), checkCronFile(view)] : []),
    ...(view.scheduler === 'cron'
      ? [checkCron(view), checkSerfDefaults(view), checkUnits(view)]
      : []),
  ];
}

/** The checks of Serf's files. */
function serfFileChecks(view: FileView, serf: SerfConfig): Check[] {
  const manager = managerOf(view);
  const { configFile, user, codeDir, machine } = view;
  const { directory, keysFile } = serf;
  const sample = join(codeDir, 'serf.json');
  const context = { directory, keysFile, user, configFile, manager };
  return [
    judgeHandlers(serf, wantedHandlers(view), isProgram(machine), { sample, manager }),
    judgeEncryption(serf, null, manager),
    judgeRpcKey(readRpcKey(view, serf), context),
    judgeJoin(serf, null, [], manager),
  ];
}

/** The handlers of the shipped serf.json, with this installation's programs; none where it is missing. */
function wantedHandlers({ machine, codeDir }: FileView): Handler[] {
  let sample: unknown;
  try {
    sample = JSON.parse(machine.read(join(codeDir, 'serf.json')) ?? '');
  } catch {
    return [];
  }
  const handlers: unknown = isRecord(sample) ? sample['event_handlers'] : undefined;
  if (!Array.isArray(handlers)) return [];
  return handlers
    .filter((each): each is string => typeof each === 'string')
    .map(parseHandler)
    .map(({ event, program }) => ({
      event,
      program: program.replace(/^\/opt\/p2p-update/, () => codeDir),
    }));
}

function isProgram({ look }: Machine): (path: string) => boolean {
  return (path) => {
    try {
      const found = look(path);
      // A link leads to a program, or the agent says so when it runs it.
      return found?.type === 'link' || (found?.type === 'file' && (found.mode & 0o111) !== 0);
    } catch {
      return true;
    }
  };
}

/** Compares the RPC key of both sides, and forgets it. */
function readRpcKey({ config, machine, user }: FileView, serf: SerfConfig): RpcKey {
  const file = config.serf.rpcAuthFile;
  const unseen = serf.closed.length > 0;
  const own = serf.rpcAuth;
  const without = own === undefined ? (unseen ? 'unknown' : 'none') : 'unknown';
  if (file === null) return { file, found: 'missing', agent: own === undefined ? without : 'same' };
  try {
    const text = machine.read(file);
    if (text === undefined) return { file, found: 'missing', agent: without };
    const isSame = text.replace(/\r?\n$/, '') === own;
    const agent = own === undefined ? without : isSame ? 'same' : 'differs';
    return { file, found: readers(file, machine, user), agent };
  } catch {
    return { file, found: readers(file, machine, user), agent: without };
  }
}

function readers(file: string, machine: Machine, user: string): RpcKey['found'] {
  let found: ReturnType<Machine['look']>;
  try {
    found = machine.look(file);
  } catch {
    return 'unknown';
  }
  if (found === undefined) return 'missing';
  const { uid, gid, mode } = found;
  if ((mode & 0o004) !== 0) return 'open to all';
  const account = user === 'root' ? { uid: 0, gid: 0 } : machine.users.get(user);
  if (account === undefined) return 'unknown';
  if (account.uid === 0) return 'readable';
  if (uid === account.uid) return (mode & 0o400) !== 0 ? 'readable' : 'not by the node';
  const isMember =
    gid === account.gid ||
    [...machine.groups.values()].some((each) => each.gid === gid && each.members.includes(user));
  return isMember && (mode & 0o040) !== 0 ? 'readable' : 'not by the node';
}

function checkKeySetFile({ config, machine, program }: FileView): Check {
  const { ok, fail } = checkOf('key-set', 'key set');
  const { keySetFile } = config;
  return machine.look(keySetFile) !== undefined
    ? ok(keySetFile)
    : fail(
        `there is no key set, ${keySetFile}: no update is accepted without the fleet's own`,
        `${program} setup --join ADDRESS`,
      );
}

function checkLoginFile({ config, machine, user }: FileView): Check {
  const { ok, fail } = checkOf('transmission-login', 'Transmission login');
  const file = config.transmission.credentialsFile;
  if (file === null) return ok('none is asked for');
  return machine.look(file) !== undefined
    ? ok(file)
    : fail(
        `${file} is missing: Transmission's user name and password`,
        shellCommand('install', '-m', '640', '-g', user, '/dev/null', file),
        shellCommand('editor', file),
      );
}

function checkHookSetting(view: FileView): Check {
  const { codeDir, machine, settingsFile } = view;
  const hooks = completionHooks(view.config, codeDir);
  return judgeHook(readHookSetting(view), hooks, (path) => machine.look(path) !== undefined, {
    settingsFile,
    manager: managerOf(view),
  });
}

/** The hook as settings.json has it; undefined where this user may not read that. */
export function readHookSetting({
  machine,
  settingsFile,
}: Pick<FileView, 'machine' | 'settingsFile'>): HookSetting | undefined {
  let text: string | undefined;
  try {
    text = machine.read(settingsFile);
  } catch {
    return undefined;
  }
  try {
    const value: unknown = JSON.parse(text ?? '{}');
    const settings = isRecord(value) ? value : {};
    const file = settings['script-torrent-done-filename'];
    return {
      isEnabled: settings['script-torrent-done-enabled'] === true,
      file: typeof file === 'string' ? file : '',
    };
  } catch {
    return { isEnabled: false, file: '' };
  }
}

function checkTrigger({ trigger }: Config): Check {
  const { ok, warn } = checkOf('trigger', 'trigger');
  return trigger === 'spool'
    ? ok('the units or cron do the work')
    : warn(
        `"trigger" is "${trigger}": remove it, the units or cron do the work`,
        shellCommand('editor', defaultConfigFile),
      );
}

/** Files that an earlier run as root left where p2p-update has to write. */
function checkForeignFiles({ config, machine, scheduler }: FileView): Check {
  const { ok, fail, skipped } = checkOf('state-files', 'files in the state');
  const uid = machine.users.get(nodeUser)?.uid;
  const { look, list } = machine;
  const { stateDir } = config;
  const hasForeign = (directory: string): boolean =>
    list(directory).some((name) => {
      const found = look(join(directory, name));
      return found?.type === 'file' && found.uid !== uid;
    });
  try {
    const state = [stateDir, ...list(stateDir).map((name) => join(stateDir, name))];
    const directories = [
      ...(state.some(hasForeign) ? [stateDir] : []),
      ...(scheduler === 'cron' && hasForeign('/var/lib/serf') ? ['/var/lib/serf'] : []),
    ];
    if (directories.length === 0) return ok(`all are ${nodeUser}'s`);
    return fail(
      `files of other users in ${directories.join(' and ')}: give them to ${nodeUser} while Serf is stopped`,
      ...directories.map((directory) =>
        shellCommand('chown', '-R', '--no-dereference', `${nodeUser}:`, directory),
      ),
    );
  } catch {
    return skipped(`needs root: ${stateDir} is closed to this user`);
  }
}

/** The link by which systemd starts a path or timer unit at boot. */
export function wakerLink(unit: string): string {
  const target = unit.endsWith('.path') ? 'paths.target.wants' : 'timers.target.wants';
  return join(unitDirectory, target, unit);
}

/** Whether systemd starts the units, by the links of an image. */
function checkWakerLinks({ machine, root }: FileView): Check {
  const { ok, fail } = checkOf('wakers', 'units');
  const isEnabled = (unit: string): boolean => machine.look(wakerLink(unit)) !== undefined;
  if (wakers.every(isEnabled)) return ok('all enabled');
  return root === '/'
    ? fail('the units are not started', shellCommand('systemctl', 'enable', '--now', ...wakers))
    : fail(
        'the units are not enabled in the image',
        shellCommand('systemctl', '--root', root, 'enable', ...wakers),
      );
}

function checkCronFile({ machine }: FileView): Check {
  const { ok, warn } = checkOf('two-schedulers', 'one scheduler');
  return machine.look(cronFile) === undefined
    ? ok('systemd')
    : warn(`${cronFile} does the same work as the units again`, shellCommand('rm', cronFile));
}

function checkUnits({ machine }: FileView): Check {
  const { ok, warn } = checkOf('two-schedulers', 'one scheduler');
  return machine.look(join(unitDirectory, wakers[0] ?? '')) === undefined
    ? ok('cron')
    : warn(
        'the units do the same work as cron again',
        shellCommand('systemctl', 'disable', '--now', ...wakers),
        `rm ${unitDirectory}/p2p-update-*.path ${unitDirectory}/p2p-update-*.timer ${unitDirectory}/p2p-update-*.service`,
      );
}

function checkCron({ machine }: FileView): Check {
  const { ok, fail } = checkOf('wakers', 'cron');
  return machine.look('/usr/sbin/cron') === undefined
    ? fail('there is no cron', 'apt-get install cron')
    : ok('installed');
}

function checkSerfDefaults(view: FileView): Check {
  const { ok, fail } = checkOf('serf-defaults', "user of Serf's init script");
  const defaults = '/etc/default/serf';
  if (view.machine.read(defaults)?.includes(`USER=${nodeUser}`) === true) return ok(nodeUser);
  return fail(
    `Serf's init script does not run the agent as ${nodeUser}`,
    `printf 'USER=${nodeUser}\\nGROUP=${nodeUser}\\numask 077\\n' >> ${defaults}`,
    ...manage(managerOf(view), 'restart', 'serf'),
  );
}
