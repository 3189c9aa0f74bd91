import { commandLine } from '../cli/command-line.ts';

export const help = `Usage: p2p-update retire NODE... [--json]

Takes nodes out of the fleet for good. A node that is down, or has left, is still waited for: status and
submit --wait name it, until it is retired. Any node may do it, and every node then forgets the retired one.

Switch the node off before. One that joins again is a member again; to keep it out, change the fleet's
encrypt_key (docs/serf.md).

  --json           one JSON object on standard output
  --help

Exit status: 0 retired, 64 usage, or no such member, 69 Serf is down, 75 still on Serf's list, 76 it is alive,
78 configuration.
`;

const { parse, usage } = commandLine('retire');

export interface RetireRequest {
  /** One or more, each once. */
  names: string[];
  json: boolean;
}

/** Decides what the arguments ask for; undefined is help. Throws UpdateError `usage`. */
export function parseRequest(args: string[]): RetireRequest | undefined {
  const { values, positionals } = parse({
    args,
    allowPositionals: true,
    options: {
      json: { type: 'boolean', default: false },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  if (values.help) return undefined;
  if (positionals.length === 0) throw usage('name the nodes to retire');
  return { names: [...new Set(positionals)], json: values.json };
}
