import { commandLine } from '../cli/command-line.ts';

export const help = `Usage: p2p-update log [CHANNEL[@VERSION]] [--queries] [--watch] [--json]

Shows the log of this node, of its handlers, advance and the apply side together, in the order of time:
all of it, the lines of one channel, or those of one update from its event to its outcome. Answers to
other nodes' queries, as of status, are left out.

  --queries        with those answers
  --watch          go on with new lines until Ctrl-C
  --json           the lines as they are in events.log, one JSON object each
  --help

The configuration is /etc/p2p-update/config.json, or the file that P2P_UPDATE_CONFIG names. Root and
members of the group p2p-update may read both logs.

Exit status: 0 shown, 64 usage, 78 configuration, or a log that this user may not read.
`;

const { parse, usage } = commandLine('log');

export interface LogOptions {
  /** A channel, or one update of it as channel@version; undefined: everything. */
  key: string | undefined;
  /** With the answers to queries of other nodes. */
  queries: boolean;
  /** One JSON object a line, as the log has it. */
  json: boolean;
  /** Go on with new lines until the process ends. */
  follow: boolean;
}

/** Decides what the arguments ask for; undefined is help. Throws UpdateError `usage`. */
export function parseCommand(args: string[]): LogOptions | undefined {
  const { values, positionals } = parse({
    args,
    allowPositionals: true,
    options: {
      queries: { type: 'boolean', default: false },
      watch: { type: 'boolean', default: false },
      json: { type: 'boolean', default: false },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  if (values.help) return undefined;
  const [key, ...more] = positionals;
  if (more.length > 0) throw usage('one channel or update at a time, or none for everything');
  const { json, queries, watch: follow } = values;
  return { key, json, queries, follow };
}
