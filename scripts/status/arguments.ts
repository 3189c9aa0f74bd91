import { isChannel } from '../../lib/announcement/fields.ts';
import { commandLine } from '../cli/command-line.ts';
import type { View } from './report.ts';

export const help = `Usage: p2p-update status [--channel NAME] [--node NAME] [--all | --failed]
       [--watch [SECONDS]] [--json]

Asks every node of the fleet for its updates, and shows the verdict and why; a line for each update
that is in effect; and what is not right, the worst first, with the command that helps. The fleet has
converged when each node holds the newest version of each channel, and has applied it where it is a
target.

  --channel NAME   only this channel
  --node NAME      only this node, with every channel of it; the exit status is for it alone
  --all            every node and channel, in a table
  --failed         only what has failed, in a table
  --watch          repeat every 5 s, or SECONDS, until Ctrl-C; within the height of the terminal
  --json           one JSON object (docs/status.md); with --watch one a line
  --help

The configuration is /etc/p2p-update/config.json, or the file that P2P_UPDATE_CONFIG names.

Exit status: 0 converged, or an update waits for its time (--not-before), 1 an update failed on some
node, or has to be signed again, 2 stale (the newest announcement, of the fleet or of a node, is older
than "staleAfterSeconds"), 75 not converged yet, or a node does not answer, 64 usage, 69 Serf is down,
78 configuration. Of several, the first of 1, 2, 75.
`;

const { parse, usage } = commandLine('status', { log: 'log' });

const defaultSeconds = 5;

export interface StatusOptions {
  /** Undefined: all channels. */
  channel: string | undefined;
  /** This node alone; undefined: all nodes. */
  node: string | undefined;
  rows: View['rows'];
  json: boolean;
  /** The pause between two reports; null: one report. */
  watchSeconds: number | null;
}

/** Decides what the arguments ask for; undefined is help. Throws UpdateError `usage`. */
export function parseCommand(args: string[]): StatusOptions | undefined {
  const { values, positionals } = parseOptions(args);
  const { watch = false, json = false, all = false, failed = false, channel, node } = values;
  const [first, ...more] = positionals;
  if (values.help === true) return undefined;
  const strange = more[0] ?? (watch ? undefined : first);
  if (strange !== undefined) throw usage(`${JSON.stringify(strange)} has no meaning here`);
  if (channel !== undefined && !isChannel(channel))
    throw usage(`${JSON.stringify(channel)} is not a channel`);
  if (first !== undefined && !/^[1-9]\d{0,4}$/.test(first))
    throw usage(`--watch takes whole seconds, 1 to 99999, not ${JSON.stringify(first)}`);
  if (all && failed) throw usage('--all and --failed exclude each other');
  const rows = all ? 'all' : failed ? 'failed' : 'problems';
  const seconds = first === undefined ? defaultSeconds : Number(first);
  return { channel, node, rows, json, watchSeconds: watch ? seconds : null };
}

function parseOptions(args: string[]) {
  return parse({
    args,
    allowPositionals: true,
    options: {
      channel: { type: 'string' },
      node: { type: 'string' },
      all: { type: 'boolean' },
      failed: { type: 'boolean' },
      watch: { type: 'boolean' },
      json: { type: 'boolean' },
      help: { type: 'boolean', short: 'h' },
    },
  });
}
