import { parseUpdateName, type UpdateId } from '../../lib/announcement/update.ts';
import { commandLine } from '../cli/command-line.ts';
import { defineCommand } from '../cli/define-command.ts';
import { runSides } from './run-sides.ts';
import { print } from '../cli/output.ts';

const helpOption = { help: { type: 'boolean', short: 'h', default: false } } as const;
/** Where `--retry` went. */
const moved = { retry: 'retry' };

const reconcileHelp = `Usage: p2p-update reconcile

Brings this node up to date with what it knows: queues accepted updates in Transmission, applies what
is complete, and cleans up. The handlers start it; a timer or cron should too, once a minute and at
boot. Safe to run at any time. What it did is in events.log of "stateDir" and of "applyDir".

Run by the owner of "stateDir" alone it only advances, run by root it does both, each as its own user.

  --help

Exit status: 0 done (also when another reconcile is at it), 64 usage, 69 Transmission is down, 75 try
again later, 78 configuration.
`;

/** Brings this node up to date with what it knows. */
export const reconcile = defineCommand('reconcile', reconcileHelp, async (args) => {
  const { values } = commandLine('reconcile', moved).parse({ args, options: helpOption });
  if (values.help) print(reconcileHelp);
  else await runSides('reconcile', ['advance', 'apply']);
});

const applyHelp = `Usage: p2p-update apply

Stages what Transmission has completed, verifies it from its own copy, and applies what is due. Runs
as the owner of "applyDir", which is root but where one user runs everything. A path unit, a timer or
cron starts it, and it takes no input but the marks of what is complete. What it did is in events.log
of "applyDir".

  --help

Exit status: 0 done (also when another apply is at it), 64 usage, 75 try again later, 78 configuration.
`;

/** Runs the apply side of this node, which is root's. */
export const apply = defineCommand('apply', applyHelp, async (args) => {
  const { values } = commandLine('apply', moved).parse({ args, options: helpOption });
  if (values.help) print(applyHelp);
  else await runSides('apply', ['apply']);
});

const retryHelp = `Usage: p2p-update retry [CHANNEL@VERSION]

Takes up again what was given up (POISONED) after three failed tries, all of it or the update that is
named, with all its tries, and then does what reconcile does. What has expired meanwhile, or counts no
more, stays given up. For the owner of "applyDir", which is root.

  --help

Exit status: 0 done, 64 no such update here, 69 Transmission is down, 75 try again later, 76 it was not
given up or must stay so, 78 configuration.
`;

/** Takes up again what was given up. */
export const retry = defineCommand('retry', retryHelp, async (args) => {
  const request = parseRetry(args);
  if (request === undefined) print(retryHelp);
  else await runSides('retry', ['advance', 'apply'], request.update);
});

/** Decides what the arguments of `retry` ask for; undefined is help. Throws UpdateError `usage`. */
export function parseRetry(args: string[]): { update: UpdateId | 'all' } | undefined {
  const { parse, usage } = commandLine('retry');
  const { values, positionals } = parse({ args, allowPositionals: true, options: helpOption });
  if (values.help) return undefined;
  const [key, ...more] = positionals;
  if (more.length > 0) throw usage('one update at a time, or none for all');
  if (key === undefined) return { update: 'all' };
  const id = parseUpdateName(key);
  if (id === undefined) throw usage(`${JSON.stringify(key)} is no CHANNEL@VERSION`);
  return { update: id };
}
