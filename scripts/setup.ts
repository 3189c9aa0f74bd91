/**
 * Makes a machine, or the image of one, a node: the user, the directories with their owners and
 * modes, the configuration, and systemd's units or cron's lines. docs/setup.md says the same by hand.
 */
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { UpdateError, exitStatus, formatError } from '../lib/errors.ts';
import { planSetup } from './setup/plan.ts';
import { help, parseRequest, type SetupRequest } from './setup/arguments.ts';
import { checkCode } from './setup/code.ts';
import { takeSetupStep } from './setup/execute.ts';
import { decideFollowUps } from './setup/left.ts';
import { readMachine } from './setup/machine.ts';
import { describeStep, formatFollowUps, formatRows } from './setup/report.ts';
import { detectScheduler, schedulerDirectories, schedulerFiles } from './setup/scheduler.ts';

function main(): void {
  const request = parseRequest(process.argv.slice(2));
  if (request === undefined) {
    process.stdout.write(help);
    return;
  }
  if (process.getuid?.() !== 0)
    throw new UpdateError('usage', 'only root can see and set all that a node needs', {
      hint: 'run it as root; with --dry-run it changes nothing',
    });
  setUp(request, dirname(import.meta.dirname));
}

function setUp({ root, dryRun, json, ...request }: SetupRequest, ownDir: string): void {
  const machine = readMachine(root);
  // Run out of the image itself, or as it is installed here: inside it has the same path.
  const codeDir = ownDir.startsWith(`${root}/`) ? ownDir.slice(root.length) : ownDir;
  checkCode(codeDir, machine);
  const scheduler = request.scheduler ?? detectScheduler(root, machine);
  const templates = join(import.meta.dirname, 'setup');
  const plan = planSetup(
    {
      nodeName: request.nodeName,
      tags: request.tags,
      keySet: request.keySetFile === null ? null : readKeySet(request.keySetFile),
      files: (config) => schedulerFiles(scheduler, codeDir, templates, config),
      directories: schedulerDirectories(scheduler),
    },
    machine,
  );
  const left = decideFollowUps(plan, machine, { scheduler, codeDir, root });
  const rows = plan.steps.map((step) => describeStep(step, machine));
  if (!json && rows.length === 0) process.stdout.write('nothing to do\n');
  // The table first: of a step that fails one then knows which it was, and what was still to come.
  if (!json) process.stdout.write(formatRows(rows));
  if (!dryRun) {
    // The modes are those of the plan, whatever the caller's mask.
    process.umask(0o022);
    plan.steps.forEach((step, index) => {
      try {
        takeSetupStep(step, root);
      } catch (cause) {
        if (cause instanceof UpdateError) throw cause;
        const { action = '', path = '' } = rows[index] ?? {};
        throw new UpdateError('internal', `could not ${action} ${path}`, {
          hint: 'put right what it says, then run setup again: it goes on from here',
          cause,
        });
      }
    });
  }
  process.stdout.write(
    json
      ? `${JSON.stringify({ dryRun, root, code: codeDir, scheduler, steps: rows, left })}\n`
      : formatFollowUps(left),
  );
}

function readKeySet(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (cause) {
    throw new UpdateError('usage', `cannot read the key set ${file}`, {
      hint: 'name the keyset.txt that keygen.ts made',
      cause,
    });
  }
}

try {
  main();
} catch (error) {
  process.stderr.write(formatError('setup', error));
  process.exitCode = exitStatus(error);
}
