import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { buildTime, distDirectory, programFile, softwareVersion } from '../../lib/build.ts';
import { completionHooks, type Config, defaultConfigFile } from '../../lib/config.ts';
import { type AgentInfo, connectSerf, type SerfClient } from '../../lib/daemons/serf/client.ts';
import type { Member } from '../../lib/daemons/serf/members.ts';
import { commandPath } from '../../lib/daemons/puppet/puppet.ts';
import { peerOf } from '../../lib/daemons/transmission/tracker.ts';
import { describeError, UpdateError } from '../../lib/errors.ts';
import { type Check, checkOf } from '../../lib/health/check.ts';
import { ownChecks, tryKeySet } from '../../lib/health/own-checks.ts';
import { isSplit } from '../../lib/health/places.ts';
import { askSummaries } from '../../lib/query/ask-fleet.ts';
import { requireOwnership } from '../../lib/reconciler/apply/ownership.ts';
import { HeldUpdates } from '../../lib/state/held.ts';
import { nodeUser, transmissionUser } from '../../lib/state/layout.ts';
import { type Accounts, readAccounts } from '../../lib/system/accounts.ts';
import {
  type DaemonProcess,
  findDaemon,
  optionOf,
  variableOf,
} from '../../lib/system/daemon-process.ts';
import { findCommand } from '../../lib/system/run-command.ts';
import { tryCommand } from '../../lib/system/try-command.ts';
import { nowSeconds } from '../cli/time.ts';
import { readMachine } from '../setup/machine.ts';
import {
  cronFile,
  detectScheduler,
  packagedUnitDirectory,
  unitDirectory,
  wakers,
} from '../setup/scheduler.ts';
import { readAddresses } from './addresses.ts';
import {
  debianPlaces,
  fileChecks,
  type FileView,
  managerOf,
  readHookSetting,
} from './file-checks.ts';
import { type CalledPeer, judgeFleetSoftware, judgePeers } from './fleet-checks.ts';
import { callPeer } from './handshake.ts';
import { judgeHookRun, tryHook } from './hook-run.ts';
import { judgePuppet, judgeWakers } from './machine-checks.ts';
import { judgeAgent, nameConflict, type SerfReply } from './serf-checks.ts';
import { readSerfConfig, type SerfConfig, serfDirectoryOf } from './serf-config.ts';
import { judgeEncryption, judgeJoin } from './serf-file-checks.ts';
import { journalHas, showUnits, type UnitState } from './systemd.ts';
import {
  judgeDaemon,
  judgeDirectory,
  judgeHook,
  judgePort,
  judgeSettings,
} from './transmission-checks.ts';
import { askTransmission, readDownloadDirectory } from './transmission-facts.ts';

const maxCallSeconds = 5;
const peerTimeoutMs = 3000;
const fleetTimeoutMs = 9000;
const puppetTimeoutMs = 30_000;
/** Members whose Transmission is called. */
const maxPeers = 8;

/** This machine as the checks of the daemons see it. */
interface Context {
  config: Config;
  view: FileView;
  accounts: Accounts;
  isSplit: boolean;
  serf: { process: DaemonProcess | undefined; config: SerfConfig; client: SerfClient };
  transmission: { process: DaemonProcess | undefined };
  /** null: systemd does not run here. */
  units: ReadonlyMap<string, UnitState> | null;
}

/** Examines this node: every check, each with a time limit of its own; never throws for a fault of the node. */
export async function examine(config: Config, configFile: string): Promise<Check[]> {
  const context = await readContext(config, configFile);
  const [serf, transmission, puppet] = await Promise.all([
    examineSerf(context),
    examineTransmission(context),
    examinePuppet(config),
  ]);
  const { members, info } = serf;
  const self = members.find(({ name }) => name === info?.name);
  const others = members.filter(({ name, status }) => status === 'alive' && name !== info?.name);
  const holds = await infoHashes(context, transmission.complete);
  const [port, peers, fleet] = await Promise.all([
    checkPort(context, transmission.session, self, holds.own),
    checkPeers(others, info, holds.any),
    checkFleet(context, others, info),
  ]);
  const live = [
    checkConfig(configFile),
    ...examineFiles(config),
    checkRootPaths(config, configFile),
    checkWakers(context),
    ...serf.checks,
    ...transmission.checks,
    port,
    puppet,
    peers,
    fleet,
  ];
  return merge(live, fileChecks(context.view), context);
}

/** The live checks, and those of files that none of them has made better. */
function merge(live: Check[], files: Check[], { isSplit: split, config, units }: Context): Check[] {
  const known = new Set(live.map(({ id }) => id));
  // Made by the daemon check; and a lab's one user starts, owns and schedules everything itself.
  const leftOut = new Set([
    'transmission-login',
    ...(split ? [] : ['state-files']),
    // Of a node that cron was never set up on, the check of the units has told all.
    ...(split && (units !== null || existsSync(cronFile))
      ? []
      : ['serf-defaults', 'two-schedulers']),
    ...(config.trigger === 'spawn' ? ['trigger'] : []),
  ]);
  const all = [...live, ...files.filter(({ id }) => !known.has(id) && !leftOut.has(id))];
  const place = ({ id }: Check): number => (order.includes(id) ? order.indexOf(id) : order.length);
  return all.sort((a, b) => place(a) - place(b));
}

/** Order of the report: what the rest depends on comes first. */
const order = [
  ...[
    'configuration',
    'disk',
    'clock',
    'machine',
    'key-set',
    'places',
    'state-files',
    'root-paths',
  ],
  ...['trigger', 'wakers', 'two-schedulers'],
  ...['serf-agent', 'serf-defaults', 'serf-rpc-key', 'serf-encryption', 'serf-handlers'],
  ...['serf-join', 'transmission-daemon', 'transmission-settings', 'transmission-directory'],
  ...['transmission-hook', 'transmission-hook-run', 'transmission-port', 'puppet'],
  ...['peers', 'fleet'],
];

async function readContext(config: Config, configFile: string): Promise<Context> {
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

function nameOf(uid: number, users: Accounts['users']): string {
  return [...users].find(([, user]) => user.uid === uid)?.[0] ?? String(uid);
}

function checkConfig(configFile: string): Check {
  return checkOf('configuration', 'configuration').ok(configFile);
}

function examineFiles(config: Config): Check[] {
  let newestCreated: number | null = null;
  try {
    const held = new HeldUpdates(config);
    for (const id of held.ids) {
      const created = held.announcement(id)?.update.created ?? 0;
      newestCreated = Math.max(newestCreated ?? 0, created);
    }
  } catch {
    // Closed to this user, or damaged: another check says that.
  }
  const input = { keySet: tryKeySet(config), newestCreated, nowSeconds: nowSeconds(), buildTime };
  return ownChecks(config, input);
}

/** Paths that root trusts, which no other user may change. */
function checkRootPaths(config: Config, configFile: string): Check {
  const { ok, fail } = checkOf('root-paths', 'paths that root trusts');
  try {
    requireOwnership(config, [configFile, process.execPath, programFile()]);
    return ok('root alone can change them');
  } catch (error) {
    if (!(error instanceof UpdateError)) throw error;
    const [path = ''] = error.message.split(/ (?:belongs|can be)/);
    return fail(error.message, `chown root ${path}`, `chmod go-w ${path}`);
  }
}

function checkWakers({ config, units, view }: Context): Check {
  return judgeWakers({
    trigger: config.trigger,
    units,
    hasUnitFiles: [unitDirectory, packagedUnitDirectory].some((each) =>
      existsSync(join(each, wakers[0] ?? '')),
    ),
    hasCronFile: existsSync(cronFile),
    isCronRunning: view.scheduler === 'cron' && findDaemon('cron') !== undefined,
  });
}

interface SerfExamination {
  checks: Check[];
  members: Member[];
  info: AgentInfo | null;
}

async function examineSerf(context: Context): Promise<SerfExamination> {
  const { serf, units, accounts, view } = context;
  let reply: SerfReply;
  let info: AgentInfo | null = null;
  let members: Member[] = [];
  try {
    info = await serf.client.info();
    members = await serf.client.members();
    reply = { kind: 'up', isEncrypted: info.isEncrypted };
  } catch (error) {
    if (!(error instanceof UpdateError)) throw error;
    reply = {
      kind: error.code === 'configuration' ? 'refused' : 'down',
      why: describeError(error),
    };
  }
  const manager = managerOf(view);
  const self = members.find(({ name }) => name === info?.name);
  const alive = info === null ? null : members.filter(({ status }) => status === 'alive').length;
  const agent = judgeAgent({
    reply,
    unit: units?.get('serf.service') ?? null,
    hasNameConflict: reply.kind === 'down' && (await journalHas('serf', nameConflict)),
    nodeName: info?.name ?? null,
    runsAs: serf.process === undefined ? null : nameOf(serf.process.uid, accounts.users),
    user: view.user,
  });
  return {
    checks: [
      agent,
      judgeEncryption(serf.config, info?.isEncrypted ?? null, manager),
      judgeJoin(serf.config, alive, [self?.address ?? '', info?.name ?? ''], manager),
    ],
    members,
    info,
  };
}

interface TransmissionExamination {
  checks: Check[];
  /** null: it did not answer. */
  session: Readonly<Record<string, unknown>> | null;
  /** Info hashes of what the daemon has whole. */
  complete: ReadonlySet<string>;
}

async function examineTransmission(context: Context): Promise<TransmissionExamination> {
  const { config, view, accounts, units, transmission, isSplit: split } = context;
  const { reply, complete } = await askTransmission(config, maxCallSeconds);
  const session = reply.kind === 'up' ? reply.session : null;
  const told = session?.['config-dir'];
  const settingsFile = typeof told === 'string' ? join(told, 'settings.json') : view.settingsFile;
  const manager = managerOf(view);
  const { machine, codeDir } = view;
  const daemon = judgeDaemon({
    ...{ reply, manager, settingsFile, loginFile: config.transmission.credentialsFile },
    hasIPv4: readAddresses().hasIPv4,
    unit: units?.get('transmission-daemon.service') ?? null,
  });
  const hook =
    session === null
      ? readHookSetting({ machine, settingsFile })
      : {
          isEnabled: session['script-torrent-done-enabled'] === true,
          file: String(session['script-torrent-done-filename']),
        };
  const hooks = completionHooks(config, codeDir);
  const process = transmission.process;
  const uid = process?.uid ?? accounts.users.get(transmissionUser)?.uid;
  const account = [...accounts.users.values()].find((user) => user.uid === uid);
  const run =
    hook?.isEnabled === true && existsSync(hook.file)
      ? await tryHook(hook.file, account, process && variableOf(process.pid, 'P2P_UPDATE_CONFIG'))
      : null;
  const checks = [
    daemon,
    session === null
      ? checkOf('transmission-settings', 'Transmission settings').skipped(
          'Transmission does not answer',
        )
      : judgeSettings(session),
    judgeHook(hook, hooks, existsSync, { settingsFile, manager }),
    judgeHookRun(run),
    judgeDirectory({
      ...readDownloadDirectory(config.downloadDir, uid, accounts),
      daemons: session?.['download-dir'] ?? config.downloadDir,
      isMember: split
        ? accounts.groups.get(transmissionUser)?.members.includes(nodeUser) === true
        : null,
      user: uid === undefined ? transmissionUser : nameOf(uid, accounts.users),
    }),
  ];
  return { checks, session, complete };
}

async function examinePuppet({ puppet }: Config): Promise<Check> {
  const { command } = puppet;
  const path = (await findCommand(command, commandPath)) ?? null;
  const isLocked = path === null && command.startsWith('/') && existsSync(command);
  const version = path === null ? null : await puppetVersion(path);
  return judgePuppet({ command, path, isLocked, version });
}

/** Asks Puppet for its version; it makes files in the home of any user but root, so it gets one for the time. */
async function puppetVersion(path: string): Promise<string | null> {
  const home = mkdtempSync(join(tmpdir(), 'p2p-update-doctor-'));
  try {
    const env = { PATH: commandPath, LANG: 'C.UTF-8', HOME: home };
    const end = await tryCommand([path, '--version'], { timeoutMs: puppetTimeoutMs, env });
    return end.status === 0 ? end.stdout.trim() : null;
  } finally {
    rmSync(home, { recursive: true, force: true });
  }
}

/** Info hashes to ask members for, and this node's own daemon: of the newest updates first. */
async function infoHashes(
  { config }: Context,
  complete: ReadonlySet<string>,
): Promise<{ any: string | null; own: string | null }> {
  try {
    const held = new HeldUpdates(config);
    const offers = await Promise.all(held.ids.map((id) => held.offer(id)));
    const hashes = offers
      .flatMap((offer) => offer?.update ?? [])
      .filter(({ length }) => length > 0)
      .sort((a, b) => b.created - a.created)
      .map(({ infoHash }) => infoHash);
    const own = hashes.find((hash) => complete.has(hash)) ?? null;
    return { any: own ?? hashes[0] ?? null, own };
  } catch {
    return { any: null, own: null };
  }
}

async function checkPort(
  { view, serf }: Context,
  session: Readonly<Record<string, unknown>> | null,
  self: Member | undefined,
  infoHash: string | null,
): Promise<Check> {
  const { skipped } = checkOf('transmission-port', 'Transmission port');
  if (session === null) return skipped('Transmission does not answer');
  if (self === undefined) return skipped('Serf does not answer, so this address is unknown');
  const peer = peerOf(self);
  return judgePort({
    ...peer,
    daemons: session['peer-port'],
    reach: await callPeer(peer, infoHash, peerTimeoutMs),
    hadTorrent: infoHash !== null,
    serfFile: serf.config.joinFile,
    manager: managerOf(view),
  });
}

async function checkPeers(
  others: readonly Member[],
  info: AgentInfo | null,
  infoHash: string | null,
): Promise<Check> {
  if (info === null) return checkOf('peers', 'peers reachable').skipped('Serf does not answer');
  const peers = await Promise.all(
    sample(others, maxPeers).map(async (member): Promise<CalledPeer> => {
      const peer = peerOf(member);
      const reach = await callPeer(peer, infoHash, peerTimeoutMs);
      return { name: member.name, ...peer, reach };
    }),
  );
  return judgePeers(peers, others.length, infoHash !== null);
}

/** Some members, not always the first ones. */
function sample<T>(list: readonly T[], count: number): T[] {
  const start = Math.floor(Math.random() * list.length);
  return [...list.slice(start), ...list.slice(0, start)].slice(0, count);
}

async function checkFleet(
  { serf }: Context,
  others: readonly Member[],
  info: AgentInfo | null,
): Promise<Check> {
  const { skipped } = checkOf('fleet', 'software of the fleet');
  if (info === null) return skipped('Serf does not answer');
  const names = others.map(({ name }) => name);
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<null>((resolve) => {
    timer = setTimeout(resolve, fleetTimeoutMs, null);
  });
  try {
    const answers = await Promise.race([askSummaries(serf.client, names), late]);
    if (answers === null) return judgeFleetSoftware(null);
    const software = new Map(
      [...answers].flatMap(([name, answer]): [string, string][] =>
        answer === null ? [] : [[name, answer.software]],
      ),
    );
    const silent = names.filter((name) => !software.has(name));
    software.set(info.name, softwareVersion);
    return judgeFleetSoftware({ software, silent, own: softwareVersion });
  } catch (error) {
    if (error instanceof UpdateError) return skipped(describeError(error));
    throw error;
  } finally {
    clearTimeout(timer);
  }
}

/** The configuration file that this process reads. */
export function configFileOf(env: NodeJS.ProcessEnv): string {
  return env['P2P_UPDATE_CONFIG'] ?? defaultConfigFile;
}
