import { commandLine } from '../cli/command-line.ts';

export const help = `Usage: p2p-update invite [options]

Prints the line by which a further machine becomes a node of this fleet; run it as root, on a node.
The line is a secret: who has it can read and send the fleet's gossip, though never sign an update.

Options:
  --out FILE  write the invitation to a new file, mode 0600, for p2p-update setup --invite FILE
  --json      one JSON object on standard output
  --help

Exit status: 0 done, 64 usage, 69 Serf's agent does not answer, 76 the file exists, 78 the node has no
key set, or its gossip is not encrypted.
`;

const { parse, usage } = commandLine('invite');

export interface InviteRequest {
  /** Null: the line is printed. */
  file: string | null;
  json: boolean;
}

/** Decides what the arguments ask for; undefined is help. Throws UpdateError `usage`. */
export function parseRequest(args: string[]): InviteRequest | undefined {
  const { values } = parse({
    args,
    options: {
      out: { type: 'string' },
      json: { type: 'boolean' },
      help: { type: 'boolean', short: 'h' },
    },
  });
  if (values.help === true) return undefined;
  if (values.out === '') throw usage('--out needs a file');
  return { file: values.out ?? null, json: values.json ?? false };
}
