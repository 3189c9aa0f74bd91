import { parseUpdateRef, type UpdateRef } from '../../lib/announcement/update.ts';
import { commandLine } from '../cli/command-line.ts';
import { defineCommand, defineRequestCommand } from '../cli/define-command.ts';
import { runSides } from './run-sides.ts';
import { print } from '../cli/output.ts';

const helpOption = { help: { type: 'boolean', short: 'h', default: false } } as const;
const options = { ...helpOption, 'no-wait': { type: 'boolean', default: false } } as const;
/** The option `--retry` is a command now. */
const moved = { retry: 'retry' };

const reconcileHelp = `Usage: p2p-update reconcile

Brings this node up to date: queues accepted updates in Transmission, applies those that are complete,
and cleans up. The handlers start it; a timer or cron should too, once a minute and at boot. Safe to
run at any time. It logs to events.log of "stateDir" and of "applyDir".

Run by the owner of "stateDir" alone it only advances, run by root it does both, each as its own user.

  --no-wait    leave the work to another reconcile that is at it, as handlers and timers do; else wait
               for it, for 30 s
  --help

Exit status: 0 done, 64 usage, 69 Transmission or Serf is down, 75 try again later (a full disk, another
reconcile that goes on), 78 configuration, or a key that a daemon refuses.
`;

/** Brings this node up to date. */
export const reconcile = defineCommand('reconcile', reconcileHelp, async (args) => {
  const { values } = commandLine('reconcile', moved).parse({ args, options });
  if (values.help) print(reconcileHelp);
  else await runSides('reconcile', ['advance', 'apply'], !values['no-wait']);
});

const applyHelp = `Usage: p2p-update apply

Stages complete downloads, verifies each from its own copy, and applies the updates that are due. Runs
as the owner of "applyDir", which is root unless one user runs everything. A path unit, a timer or
cron starts it, and its only input are the markers of complete downloads. It logs to events.log of
"applyDir".

  --no-wait    leave the work to another apply that is at it, as timers do; else wait for it, for 30 s
  --help

Exit status: 0 done, 64 usage, 75 try again later (also: another apply goes on), 78 configuration.
`;

/** Runs the apply side of this node, which is root's. */
export const apply = defineCommand('apply', applyHelp, async (args) => {
  const { values } = commandLine('apply', moved).parse({ args, options });
  if (values.help) print(applyHelp);
  else await runSides('apply', ['apply'], !values['no-wait']);
});

const retryHelp = `Usage: p2p-update retry [CHANNEL[@VERSION]]

Tries updates that failed on this node again at once, with three new tries: those that wait for their
next try (FAILED) and those that were given up after three (POISONED); all of them, those of a channel,
or the one that is named. Then it does the work of reconcile. An update that has expired or was
superseded or withdrawn stays as it is. For the owner of "applyDir", which is root.

  --help

Exit status: 0 done, 64 no such update here, 69 Transmission is down, 75 try again later, 76 it has not
failed or must stay as it is, 78 configuration.
`;

/** Tries updates again that failed. */
export const retry = defineRequestCommand('retry', retryHelp, parseRetry, (wanted) =>
  runSides('retry', ['advance', 'apply'], true, wanted),
);

/** Decides what the arguments of `retry` ask for; undefined is help. Throws UpdateError `usage`. */
function parseRetry(args: string[]): UpdateRef | 'all' | undefined {
  const { parse, usage } = commandLine('retry');
  const { values, positionals } = parse({ args, allowPositionals: true, options: helpOption });
  if (values.help) return undefined;
  const [key, ...more] = positionals;
  if (more.length > 0) throw usage('one channel or update at a time, or none for all');
  if (key === undefined) return 'all';
  const ref = parseUpdateRef(key);
  if (ref === undefined)
    throw usage(`${JSON.stringify(key)} is neither a channel nor CHANNEL@VERSION`);
  return ref;
}
