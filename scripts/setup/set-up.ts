import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { dirname, join } from 'node:path';
import { distDirectory } from '../../lib/build.ts';
import { commandHint } from '../../lib/command-hint.ts';
import { type Config, defaultConfigFile, parseConfig } from '../../lib/config.ts';
import { UpdateError } from '../../lib/errors.ts';
import { fingerprintOfMachine, machineFile, recordedMachine } from '../../lib/state/machine.ts';
import { isJoinAddress } from '../../lib/trust/invitation.ts';
import { parseKeySet } from '../../lib/trust/key-set.ts';
import { print, printJson } from '../cli/output.ts';
import { managerOf } from '../doctor/file-checks.ts';
import type { Manager } from '../doctor/manager.ts';
import { joinAddressOf, makeInvitation, pasteLine } from '../invite/make-invitation.ts';
import type { FleetRequest, Scheduler, SetupRequest } from './arguments.ts';
import { ask, hasTerminal } from './ask.ts';
import { checkCode } from './code.ts';
import { type DaemonsPlan, planDaemons } from './daemons.ts';
import { formatDiff } from './diff.ts';
import { takeSetupStep } from './execute.ts';
import { type Fleet, keysDirectory, type KnownKeySet, resolveFleet } from './fleet.ts';
import { decideFollowUps, type FollowUp } from './follow-ups.ts';
import { readMachine } from './machine.ts';
import { installPackages, missingPackages } from './packages.ts';
import { type PlannedFile, planSetup, publicFile, type SetupStep } from './plan.ts';
import { planProgramLink } from './program-link.ts';
import { readSetupRecord, setupRecordFile } from './record.ts';
import { removeNode } from './remove.ts';
import { describeStep, formatFollowUps, formatRows } from './report.ts';
import type { Machine } from './rules.ts';
import { detectScheduler, schedulerDirectories, schedulerFiles } from './scheduler.ts';
import {
  planServices,
  readRunning,
  requireAddresses,
  requireFreePorts,
  serfStaysDown,
  startsDaemon,
} from './services.ts';
import { type Settled, waitUntilSettled } from './settle.ts';

/** Made before the first step, and removed after the last: what it stands for is taken up again. */
const pendingFile = '/etc/p2p-update/setup-pending';

/**
 * Makes a machine, or the image of one, a node: the user, the directories with their owners and modes,
 * the configuration, systemd's units or cron's lines, and, for a fleet, Serf and Transmission, which are started.
 * docs/setup.md has the same steps by hand.
 *
 * @throws UpdateError as the exit statuses of the help text list
 */
export async function setUp(request: SetupRequest): Promise<void> {
  if (process.getuid?.() !== 0)
    throw new UpdateError('usage', 'only root can see and set all that a node needs', {
      hint: 'run it as root; with --dry-run it changes nothing',
    });
  if (request.remove) {
    removeNode(request, (question) => {
      requireYes(request, question);
    });
    return;
  }
  const scene = await prepare(request);
  const { steps, followUps, config } = await planNode(scene);
  const { dryRun, json, root, machine, manager, fleet, fleetRequest } = scene;
  const rows = steps.map((step) => describeStep(step, machine));
  // Before the steps, so that the reader sees which one failed and which were still to come.
  if (!json) {
    print(rows.length > 0 ? formatRows(rows) : nothing(followUps));
    if (dryRun && steps.length > 0) print(`\n${steps.map(formatDiff).join('')}`);
  }
  const runsDaemons = scene.doesDaemons && root === '/';
  const beganMs = Date.now();
  if (!dryRun && steps.length > 0) {
    if (runsDaemons && steps.some(({ kind }) => kind === 'service'))
      requireYes(request, 'Do that, and start the daemons?');
    takeSteps(steps, root, manager);
  }
  const settled = runsDaemons && !dryRun ? await settle(scene, config, beganMs) : null;
  const invitation =
    settled !== null && fleetRequest?.kind === 'new'
      ? makeInvitation(config, [joinAddressOf(settled.self)])
      : null;
  if (json)
    printJson({
      ...{ dryRun, root, code: scene.codeDir, scheduler: scene.scheduler },
      ...{ steps: rows, left: followUps },
      ...(dryRun ? { diff: steps.map(formatDiff).filter((text) => text !== '') } : {}),
      ...(settled === null ? {} : { node: settled.self.name, members: namesOf(settled) }),
      ...(invitation === null ? {} : { invite: invitation }),
    });
  else {
    print(formatFollowUps(followUps));
    if (settled !== null) print(formatSettled(settled, fleet?.name ?? scene.known?.fleet));
    if (invitation !== null) print(nextMachine(invitation, fleet));
  }
}

/** Waits for the daemons; an agent whose name another node has is stopped. */
async function settle(
  { fleet, root, manager }: Scene,
  config: Config,
  beganMs: number,
): Promise<Settled> {
  try {
    return await waitUntilSettled(config, (fleet?.join ?? []).length > 0, beganMs);
  } catch (error) {
    // systemd would start it again and again, and two agents of one name end each other.
    if (error instanceof UpdateError && error.code === 'refused')
      for (const step of serfStaysDown) takeSetupStep(step, root, manager);
    throw error;
  }
}

/** All that the plan depends on. */
interface Scene extends Omit<SetupRequest, 'fleet'> {
  machine: Machine;
  /** The code, as this process sees it, and as the machine does. */
  ownDir: string;
  codeDir: string;
  scheduler: Scheduler;
  manager: Manager;
  known: KnownKeySet | null;
  fleetRequest: FleetRequest | null;
  fleet: Fleet | null;
  /** Whether Serf and Transmission are set up too, and not by hand. */
  doesDaemons: boolean;
}

/** Finds out what is asked for, by questions too, and installs what is missing. */
async function prepare(request: SetupRequest): Promise<Scene> {
  const { root } = request;
  const ownDir = dirname(distDirectory());
  // Code inside the image has another path there; code outside is to have the same path in it.
  const codeDir = ownDir.startsWith(`${root}/`) ? ownDir.slice(root.length) : ownDir;
  const machine = readMachine(root);
  checkCode(codeDir, machine);
  requireWritable(machine);
  const record = readSetupRecord(machine);
  const known = readKnownKeySet(machine);
  const fleetRequest = request.fleet ?? askForFleet(request, known);
  const fleet =
    fleetRequest === null
      ? null
      : await resolveFleet(fleetRequest, known, machine, root, request.nodeName ?? hostname());
  const doesDaemons = fleet !== null || record?.daemons === true;
  const scheduler = request.scheduler ?? record?.scheduler ?? detectScheduler(root, machine);
  return {
    ...request,
    ...{ ownDir, codeDir, scheduler, manager: managerOf({ scheduler, root }) },
    ...{ known, fleetRequest, fleet, doesDaemons },
    machine:
      doesDaemons && root === '/' ? await requirePrograms(request, scheduler, machine) : machine,
  };
}

/** Plans every step, and what is left to a person then. */
async function planNode(
  scene: Scene,
): Promise<{ config: Config; steps: SetupStep[]; followUps: FollowUp[] }> {
  const { root, machine, ownDir, codeDir, scheduler, manager, fleet, doesDaemons } = scene;
  const daemons = doesDaemons ? planDaemons(scene, machine) : null;
  const plan = planSetup(
    {
      config: configMembers(scene, fleet, daemons, machine),
      keyFiles: fleet?.keyFiles ?? [],
      keySet: scene.keySetFile === null ? (fleet?.keySet ?? null) : readKeySet(scene.keySetFile),
      files: (config) => [
        ...schedulerFiles(scheduler, codeDir, join(ownDir, 'scripts', 'setup'), config, machine),
        ...(daemons?.files ?? []),
        setupRecordFile({ scheduler, daemons: doesDaemons }),
        ...(root === '/' ? machineRecord(scene, config) : []),
      ],
      directories: schedulerDirectories(scheduler),
    },
    machine,
  );
  const link = planProgramLink(join(codeDir, 'dist', 'p2p-update.cjs'), machine);
  const steps = [...plan.steps, ...link.steps];
  if (daemons !== null) {
    const running = await readRunning();
    if (root === '/') await requireFreePorts(daemons.ports, running);
    const isInterrupted = machine.look(pendingFile) !== undefined;
    const serviceContext = { manager, scheduler, isInterrupted };
    const services = planServices(steps, daemons.settings, running, serviceContext);
    if (startsDaemon(services)) requireAddresses(daemons.hasAddress);
    steps.push(...services);
  }
  const context = { scheduler, codeDir, root, starts: doesDaemons };
  return {
    config: plan.config,
    steps,
    followUps: [...decideFollowUps({ ...plan, steps }, machine, context), ...link.followUps],
  };
}

/** A file system that even root may not write to is said at once, and not by the first step that fails. */
function requireWritable(machine: Machine): void {
  if (!machine.isReadOnly('/etc')) return;
  throw new UpdateError('configuration', '/etc is on a file system that is read-only', {
    hint: 'mount it for writing (mount -o remount,rw /), then run setup again',
  });
}

/** Asks a person who has given nothing, and whose machine has no fleet. */
function askForFleet(
  { keySetFile, root, json, dryRun }: SetupRequest,
  known: KnownKeySet | null,
): FleetRequest | null {
  const canAsk = process.stdin.isTTY && process.stdout.isTTY && hasTerminal();
  if (known !== null || keySetFile !== null || root !== '/' || json || dryRun || !canAsk)
    return null;
  const name = ask('Name of the new fleet that this machine starts, or nothing to join one: ');
  if (name !== '') return { kind: 'new', name };
  const address = ask('Address of a member (HOST or HOST:PORT): ');
  if (address !== '' && !isJoinAddress(address))
    throw new UpdateError('usage', 'an address is HOST or HOST:PORT', {
      hint: 'the line that setup or p2p-update invite has printed on the other machine has it',
    });
  return { kind: 'join', addresses: address === '' ? [] : [address], from: 'terminal' };
}

/** Installs what is missing, with the person's yes; returns the machine as it is then. */
async function requirePrograms(
  request: SetupRequest,
  scheduler: Scheduler,
  machine: Machine,
): Promise<Machine> {
  const missing = await missingPackages(scheduler);
  if (missing.length === 0) return machine;
  if (request.dryRun)
    throw new UpdateError('unavailable', `not installed: ${missing.join(', ')}`, {
      hint: `what setup does depends on their files: apt-get install ${missing.join(' ')}`,
    });
  requireYes(request, `Install ${missing.join(', ')} by apt-get?`);
  await installPackages(missing);
  return readMachine('/');
}

function requireYes({ yes, json }: SetupRequest, question: string): void {
  if (yes) return;
  if (json || !hasTerminal())
    throw new UpdateError('usage', `there is no terminal to ask on: ${question}`, {
      hint: `say it by --yes; ${commandHint('setup', '--dry-run')} shows what would be done`,
    });
  if (!/^y(es)?$/i.test(ask(`${question} [y/N] `)))
    throw new UpdateError('usage', 'nothing was changed', { hint: 'answer y, or give --yes' });
}

/** The configuration as it is before the steps; the defaults where there is none. */
function configOf(read: Machine['read']): Config {
  return parseConfig(read(defaultConfigFile) ?? '{}', defaultConfigFile);
}

function readKnownKeySet({ read }: Machine): KnownKeySet | null {
  const text = read(configOf(read).keySetFile);
  return text === undefined ? null : { text, fleet: parseKeySet(text).fleet };
}

/**
 * The record of this machine. On another one than before, which may be a copy, the person has to say the name;
 * a host name is the machine's own.
 *
 * @throws UpdateError `refused`
 */
function machineRecord(
  { nodeName }: Pick<SetupRequest, 'nodeName'>,
  { applyDir, ...config }: Config,
): PlannedFile[] {
  const actual = fingerprintOfMachine();
  const recorded = recordedMachine(applyDir);
  if (actual === null) return [];
  if (recorded !== null && recorded !== actual && nodeName === null && config.nodeName !== null)
    throw new UpdateError('refused', `this machine was set up as another one, ${config.nodeName}`, {
      hint: `a copy of its disk needs a name of its own: ${commandHint('setup', '--node-name', 'NAME')}; where this machine takes the place of the other, give the name ${config.nodeName}`,
    });
  return [{ path: machineFile(applyDir), ownership: publicFile, text: `${actual}\n` }];
}

/** The members of config.json that are asked for. */
function configMembers(
  { nodeName, tags }: Pick<SetupRequest, 'nodeName' | 'tags'>,
  fleet: Fleet | null,
  daemons: DaemonsPlan | null,
  { read }: Machine,
): Record<string, unknown> {
  const { signingKeyFiles } = configOf(read);
  const added = fleet?.signingKeyFile ?? null;
  return {
    ...(nodeName === null ? {} : { nodeName }),
    ...(Object.keys(tags).length === 0 ? {} : { tags }),
    ...(added === null || signingKeyFiles.includes(added)
      ? {}
      : { signingKeyFiles: [...signingKeyFiles, added] }),
    ...daemons?.config,
  };
}

function takeSteps(steps: readonly SetupStep[], root: string, manager: Manager): void {
  // The modes are those of the plan, whatever the caller's mask.
  process.umask(0o022);
  const pending = root === '/' ? pendingFile : join(root, pendingFile);
  const machine = readMachine(root);
  for (const step of steps) {
    // Once its directory is there, and before the first file that a daemon has to take up.
    if (step.kind === 'write-file' && machine.look(pendingFile) === undefined)
      writeFileSync(pending, '', { mode: 0o644 });
    try {
      takeSetupStep(step, root, manager);
    } catch (cause) {
      if (cause instanceof UpdateError) throw cause;
      const { action, path } = describeStep(step, machine);
      throw new UpdateError('internal', `could not ${action} ${path}`, {
        hint: 'correct the cause, then run setup again: it goes on from here',
        cause,
      });
    }
  }
  rmSync(pending, { force: true });
}

function readKeySet(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (cause) {
    throw new UpdateError('usage', `cannot read the key set ${file}`, {
      hint: 'name the keyset.txt that p2p-update keygen made',
      cause,
    });
  }
}

function nothing(followUps: readonly FollowUp[]): string {
  return followUps.length === 0 ? 'nothing to do\n' : 'every file is as it should be\n';
}

function namesOf({ alive }: Settled): string[] {
  return alive.map(({ name }) => name).sort();
}

function formatSettled(settled: Settled, fleet: string | undefined): string {
  const names = namesOf(settled);
  return `\n${settled.self.name} is a node of the fleet ${fleet ?? ''}, alive: ${names.join(', ')}\n`;
}

function nextMachine(invitation: { join: string[]; token: string }, fleet: Fleet | null): string {
  const keys =
    (fleet?.keyFiles ?? []).length === 0
      ? ''
      : `\nMove ${join(keysDirectory, 'root.key')} to a medium that stays off line, and keep a second copy:\nwithout it no key of the fleet can be replaced.\n`;
  return `${keys}\nOn the next machine, as root, this line, which is a secret (or ${commandHint('invite', '--out', 'FILE')}):\n\n${pasteLine(invitation)}\n`;
}
