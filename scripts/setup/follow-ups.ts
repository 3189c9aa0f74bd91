import { basename, dirname } from 'node:path';
import { defaultConfigFile } from '../../lib/config.ts';
import { nodeUser, type Ownership, transmissionUser } from '../../lib/state/layout.ts';
import { debianPlaces, fileChecks, wakerLink } from '../doctor/file-checks.ts';
import type { Scheduler } from './arguments.ts';
import type { SetupPlan, SetupStep } from './plan.ts';
import type { Found, Machine } from './rules.ts';
import { dropIn, unitDirectory, wakers } from './scheduler.ts';

/** Work that is left to a person: what setup was not asked to do, or must not. */
export interface FollowUp {
  what: string;
  commands: string[];
}

export interface FollowUpOptions {
  scheduler: Scheduler;
  /** The directory of the code, as the machine sees it. */
  codeDir: string;
  /** `/`, or the image that is set up: nothing runs in there. */
  root: string;
  /** Whether setup starts the daemons and units itself. */
  starts: boolean;
}

/**
 * Decides which work is left once the plan's steps are taken: the checks of doctor that need files alone,
 * as far as they are not ok, and the daemons that have to take up what changed.
 *
 * @param machine its state before the steps
 */
export function decideFollowUps(
  plan: SetupPlan,
  machine: Machine,
  options: FollowUpOptions,
): FollowUp[] {
  const { scheduler, codeDir, root, starts } = options;
  const isLeft = scheduler === 'systemd' && root === '/' && !starts;
  const checks = fileChecks({
    ...debianPlaces,
    ...{ scheduler, codeDir, root, config: plan.config, configFile: defaultConfigFile },
    machine: afterSteps(machine, plan.steps),
    program: `${codeDir}/dist/p2p-update.cjs`,
    user: nodeUser,
  });
  const left = checks
    .filter(({ verdict }) => verdict === 'warn' || verdict === 'fail')
    .map(({ what, fix }) => ({ what, commands: fix }));
  return [
    ...followUpsOfDoubts(plan),
    ...(isLeft ? reloadUnits(plan) : []),
    ...left,
    ...(isLeft ? restartUnits(plan, machine) : []),
  ];
}

const settingsOwnership = { owner: transmissionUser, group: transmissionUser, mode: 0o600 };
const rootsLink = { owner: 'root', group: 'root', mode: 0o777 };

/** The machine as it will be when the steps are taken. */
function afterSteps(machine: Machine, steps: readonly SetupStep[]): Machine {
  const made = new Map<string, { found: Found; text?: string }>();
  const idOf = (ids: ReadonlyMap<string, { uid?: number; gid: number }>, name: string) =>
    name === 'root' ? { uid: 0, gid: 0 } : ids.get(name);
  const foundOf = (type: Found['type'], { owner, group, mode }: Ownership): Found => ({
    type,
    uid: idOf(machine.users, owner)?.uid ?? -1,
    gid: idOf(machine.groups, group)?.gid ?? -1,
    mode,
  });
  for (const step of steps) {
    if (step.kind === 'make-directory')
      made.set(step.path, { found: foundOf('directory', step.ownership) });
    else if (step.kind === 'write-file')
      made.set(step.path, { found: foundOf('file', step.ownership), text: step.text });
    else if (step.kind === 'correct')
      made.set(step.path, { found: foundOf(step.found.type, step.ownership) });
    else if (step.kind === 'write-settings')
      made.set(step.path, { found: foundOf('file', settingsOwnership), text: step.text });
    else if (step.kind === 'service' && step.verb === 'enable')
      for (const unit of step.units)
        made.set(wakerLink(unit), { found: foundOf('link', rootsLink) });
  }
  return {
    ...machine,
    look: (path) => made.get(path)?.found ?? machine.look(path),
    read: (path) => made.get(path)?.text ?? machine.read(path),
    list: (path) => {
      const added = [...made.keys()].filter((each) => dirname(each) === path);
      return [...new Set([...machine.list(path), ...added.map((each) => basename(each))])].sort();
    },
  };
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

const writtenBy = ({ steps }: SetupPlan): string[] =>
  steps.flatMap((step) => (step.kind === 'write-file' ? step.path : []));

function reloadUnits(plan: SetupPlan): FollowUp[] {
  return writtenBy(plan).some((path) => path.startsWith(unitDirectory))
    ? [{ what: 'let systemd read the units', commands: ['systemctl daemon-reload'] }]
    : [];
}

function restartUnits(plan: SetupPlan, { look }: Machine): FollowUp[] {
  const written = writtenBy(plan);
  const isEnabled = (unit: string): boolean => look(wakerLink(unit)) !== undefined;
  const hasNewUnits = written.some((path) => path.startsWith(unitDirectory) && path !== dropIn);
  const isNewMember = plan.steps.some(({ kind }) => kind === 'add-user' || kind === 'add-to-group');
  return [
    ...(wakers.every(isEnabled) && hasNewUnits
      ? [{ what: 'take up the new units', commands: [`systemctl restart ${wakers.join(' ')}`] }]
      : []),
    ...(isNewMember || written.includes(dropIn)
      ? [{ what: `let Serf's agent run as ${nodeUser}`, commands: ['systemctl restart serf'] }]
      : []),
  ];
}
