import { join } from 'node:path';
import { hookFile } from '../../lib/config.ts';
import { nodeUser } from '../../lib/state/layout.ts';
import type { Scheduler } from './arguments.ts';
import type { SetupPlan } from './plan.ts';
import type { Found, Machine } from './rules.ts';
import { cronFile, dropIn, unitDirectory, wakers } from './scheduler.ts';

/** Work that is left to a person, since setup starts and stops nothing. */
export interface FollowUp {
  what: string;
  commands: string[];
}

/** Handlers that serf.json registers; the one of an earlier version may lack some of them. */
const serfHandlers = ['update', 'status', 'latest', 'member-join'];

export interface FollowUpOptions {
  scheduler: Scheduler;
  /** The directory of the code, as the machine sees it. */
  codeDir: string;
  /** `/`, or the image that is set up: nothing runs in there. */
  root: string;
}

/** Decides which work is left once the plan's steps are taken; `machine` is its state before them. */
export function decideFollowUps(
  plan: SetupPlan,
  machine: Machine,
  options: FollowUpOptions,
): FollowUp[] {
  return [
    ...followUpsOfFiles(plan, machine, options),
    ...followUpsOfDoubts(plan),
    ...followUpsOfAccess(plan, machine, options),
    ...(options.scheduler === 'systemd' ? followUpsForSystemd : followUpsForCron)(
      plan,
      machine,
      options,
    ),
  ];
}

function followUpsOfFiles(
  { config, steps }: SetupPlan,
  machine: Machine,
  options: FollowUpOptions,
) {
  const { keySetFile, transmission, trigger } = config;
  const { codeDir } = options;
  const followUps: FollowUp[] = [];
  const willExist = (path: string): boolean =>
    machine.look(path) !== undefined || steps.some((step) => 'path' in step && step.path === path);
  if (!willExist(keySetFile))
    followUps.push({
      what: `place the fleet's key set, ${keySetFile}: no update is accepted without it`,
      commands: [`${codeDir}/dist/p2p-update.cjs setup --keyset FILE`],
    });
  if (transmission.credentialsFile !== null && !willExist(transmission.credentialsFile))
    followUps.push({
      what: `write Transmission's user name and password (${codeDir}/docs/transmission.md)`,
      commands: [
        `install -m 640 -g ${nodeUser} /dev/null ${transmission.credentialsFile}`,
        `editor ${transmission.credentialsFile}`,
      ],
    });
  if (!names(machine, '/etc/transmission-daemon', hookFile))
    followUps.push({
      what: `give Transmission its settings and the hook (${codeDir}/docs/transmission.md)`,
      commands: [],
    });
  const isRegistered = (name: string): boolean =>
    names(machine, '/etc/serf', `${codeDir}/dist/handlers/${name}.cjs`);
  if (!serfHandlers.every(isRegistered))
    followUps.push({
      what: `register the handlers with Serf (${codeDir}/docs/serf.md)`,
      commands: [`install -m 644 ${codeDir}/serf.json /etc/serf/10-p2p-update.json`],
    });
  if (trigger !== 'spool')
    followUps.push({
      what: `"trigger" in the configuration is "${trigger}": remove it, the units or cron do the work`,
      commands: [],
    });
  return followUps;
}

/** True when one of the JSON files of a directory names that program. */
function names({ list, read }: Machine, directory: string, program: string): boolean {
  return list(directory)
    .filter((name) => name.endsWith('.json'))
    .some((name) => read(join(directory, name))?.includes(program) === true);
}

/** Files to review: users other than root could write them until now. */
function followUpsOfDoubts({ steps }: SetupPlan): FollowUp[] {
  const isOpen = ({ type, uid, mode }: Found): boolean =>
    type === 'file' && (uid !== 0 || (mode & 0o022) !== 0);
  return steps
    .filter((step) => step.kind === 'correct' && isOpen(step.found))
    .flatMap((step) =>
      'path' in step
        ? { what: `look through ${step.path}: until now others could change it`, commands: [] }
        : [],
    );
}

/** Files that an earlier run as root left where p2p-update has to write. */
function followUpsOfAccess(
  { config }: SetupPlan,
  machine: Machine,
  { scheduler }: FollowUpOptions,
) {
  const uid = machine.users.get(nodeUser)?.uid;
  const { look, list } = machine;
  const state = [config.stateDir, ...list(config.stateDir).map((d) => join(config.stateDir, d))];
  const hasForeign = (directory: string): boolean =>
    list(directory).some((name) => {
      const found = look(join(directory, name));
      return found?.type === 'file' && found.uid !== uid;
    });
  return [
    ...(state.some(hasForeign) ? [config.stateDir] : []),
    ...(scheduler === 'cron' && hasForeign('/var/lib/serf') ? ['/var/lib/serf'] : []),
  ].map((directory) => ({
    what: `give ${nodeUser} the files of other users in ${directory}, while Serf is stopped`,
    commands: [`chown -R --no-dereference ${nodeUser}: ${directory}`],
  }));
}

function followUpsForSystemd({ steps }: SetupPlan, { look }: Machine, { root }: FollowUpOptions) {
  const followUps: FollowUp[] = [];
  const written = steps.flatMap((step) => (step.kind === 'write-file' ? step.path : []));
  const enabled = (unit: string): boolean => {
    const target = unit.endsWith('.path') ? 'paths.target.wants' : 'timers.target.wants';
    return look(join(unitDirectory, target, unit)) !== undefined;
  };
  const isAllEnabled = wakers.every(enabled);
  const units = wakers.join(' ');
  const unitsWritten = written.some((path) => path.startsWith(unitDirectory));
  if (root !== '/') {
    if (!isAllEnabled)
      followUps.push({
        what: 'enable the units in the image',
        commands: [`systemctl --root ${root} enable ${units}`],
      });
  } else {
    if (unitsWritten)
      followUps.push({ what: 'let systemd read the units', commands: ['systemctl daemon-reload'] });
    if (!isAllEnabled)
      followUps.push({ what: 'start the units', commands: [`systemctl enable --now ${units}`] });
    else if (written.some((path) => path.startsWith(unitDirectory) && path !== dropIn))
      followUps.push({ what: 'take up the new units', commands: [`systemctl restart ${units}`] });
    const isNewMember = steps.some(({ kind }) => kind === 'add-user' || kind === 'add-to-group');
    if (isNewMember || written.includes(dropIn))
      followUps.push({
        what: `let Serf's agent run as ${nodeUser}`,
        commands: ['systemctl restart serf'],
      });
  }
  if (look(cronFile) !== undefined)
    followUps.push({
      what: 'remove the lines for cron, which do the same work again',
      commands: [`rm ${cronFile}`],
    });
  return followUps;
}

function followUpsForCron(_plan: SetupPlan, { look, read }: Machine, { root }: FollowUpOptions) {
  const followUps: FollowUp[] = [];
  if (look('/usr/sbin/cron') === undefined)
    followUps.push({ what: 'install cron', commands: ['apt-get install cron'] });
  const defaults = '/etc/default/serf';
  if (read(defaults)?.includes(`USER=${nodeUser}`) !== true)
    followUps.push({
      what: `let Serf's init script run the agent as ${nodeUser}`,
      commands: [
        `printf 'USER=${nodeUser}\\nGROUP=${nodeUser}\\numask 077\\n' >> ${defaults}`,
        ...(root === '/' ? ['service serf restart'] : []),
      ],
    });
  if (look(join(unitDirectory, wakers[0] ?? '')) !== undefined)
    followUps.push({
      what: 'remove the units, which do the same work again',
      commands: [
        `systemctl disable --now ${wakers.join(' ')}`,
        `rm ${unitDirectory}/p2p-update-*.path ${unitDirectory}/p2p-update-*.timer ${unitDirectory}/p2p-update-*.service`,
      ],
    });
  return followUps;
}
