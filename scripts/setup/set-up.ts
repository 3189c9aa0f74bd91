import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { distDirectory } from '../../lib/build.ts';
import { UpdateError } from '../../lib/errors.ts';
import { planSetup } from './plan.ts';
import type { SetupRequest } from './arguments.ts';
import { checkCode } from './code.ts';
import { takeSetupStep } from './execute.ts';
import { decideFollowUps } from './follow-ups.ts';
import { readMachine } from './machine.ts';
import { planProgramLink } from './program-link.ts';
import { describeStep, formatFollowUps, formatRows } from './report.ts';
import { detectScheduler, schedulerDirectories, schedulerFiles } from './scheduler.ts';
import { print, printJson } from '../cli/output.ts';

/**
 * Makes a machine, or the image of one, a node: the user, the directories with their owners and modes,
 * the configuration, and systemd's units or cron's lines. docs/setup.md has the same steps by hand.
 *
 * @throws UpdateError as the exit statuses of the help text list
 */
export function setUp({ root, dryRun, json, ...request }: SetupRequest): void {
  if (process.getuid?.() !== 0)
    throw new UpdateError('usage', 'only root can see and set all that a node needs', {
      hint: 'run it as root; with --dry-run it changes nothing',
    });
  const ownDir = dirname(distDirectory());
  const machine = readMachine(root);
  // Code inside the image has another path there; code outside is to have the same path in it.
  const codeDir = ownDir.startsWith(`${root}/`) ? ownDir.slice(root.length) : ownDir;
  checkCode(codeDir, machine);
  const scheduler = request.scheduler ?? detectScheduler(root, machine);
  const templates = join(ownDir, 'scripts', 'setup');
  const plan = planSetup(
    {
      nodeName: request.nodeName,
      tags: request.tags,
      keySet: request.keySetFile === null ? null : readKeySet(request.keySetFile),
      files: (config) => schedulerFiles(scheduler, codeDir, templates, config, machine),
      directories: schedulerDirectories(scheduler),
    },
    machine,
  );
  const link = planProgramLink(join(codeDir, 'dist', 'p2p-update.cjs'), machine);
  const steps = [...plan.steps, ...link.steps];
  const followUps = [
    ...decideFollowUps(plan, machine, { scheduler, codeDir, root }),
    ...link.followUps,
  ];
  const rows = steps.map((step) => describeStep(step, machine));
  if (!json && rows.length === 0) print('nothing to do\n');
  // Before the steps, so that the reader sees which one failed and which were still to come.
  if (!json) print(formatRows(rows));
  if (!dryRun) {
    // The modes are those of the plan, whatever the caller's mask.
    process.umask(0o022);
    steps.forEach((step, index) => {
      try {
        takeSetupStep(step, root);
      } catch (cause) {
        if (cause instanceof UpdateError) throw cause;
        const { action = '', path = '' } = rows[index] ?? {};
        throw new UpdateError('internal', `could not ${action} ${path}`, {
          hint: 'correct the cause, then run setup again: it goes on from here',
          cause,
        });
      }
    });
  }
  if (json) printJson({ dryRun, root, code: codeDir, scheduler, steps: rows, left: followUps });
  else print(formatFollowUps(followUps));
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
