import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { keySetChannel } from '../../lib/announcement/fields.ts';
import { buildTime, programFile, softwareVersion } from '../../lib/build.ts';
import { type Config, defaultConfigFile } from '../../lib/config.ts';
import type { AgentInfo } from '../../lib/daemons/serf/client.ts';
import type { Member } from '../../lib/daemons/serf/members.ts';
import { peerOf } from '../../lib/daemons/transmission/tracker.ts';
import { describeError, UpdateError } from '../../lib/errors.ts';
import { type Check, checkOf } from '../../lib/health/check.ts';
import { ownChecks, tryKeySet } from '../../lib/health/own-checks.ts';
import { askSummaries } from '../../lib/query/ask-fleet.ts';
import { requireOwnership } from '../../lib/reconciler/apply/ownership.ts';
import { HeldUpdates } from '../../lib/state/held.ts';
import { findDaemon } from '../../lib/system/daemon-process.ts';
import { nowSeconds } from '../cli/time.ts';
import { cronFile, packagedUnitDirectory, unitDirectory, wakers } from '../setup/scheduler.ts';
import { type Context, readContext } from './context.ts';
import { examinePuppet, examineSerf, examineTransmission } from './examine-daemons.ts';
import { fileChecks, managerOf } from './file-checks.ts';
import { type CalledPeer, judgeFleetSoftware, judgePeers } from './fleet-checks.ts';
import { callPeer } from './handshake.ts';
import { judgeWakers } from './machine-checks.ts';
import { judgePort } from './transmission-checks.ts';

const peerTimeoutMs = 3000;
const fleetTimeoutMs = 9000;
/** Members whose Transmission is called. */
const maxPeers = 8;

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

function checkConfig(configFile: string): Check {
  return checkOf('configuration', 'configuration').ok(configFile);
}

function examineFiles(config: Config): Check[] {
  let newestCreated: number | null = null;
  try {
    const held = new HeldUpdates(config);
    for (const id of held.ids) {
      // The date of a key set proves nothing (lib/state/decide.ts).
      if (id.channel === keySetChannel) continue;
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
