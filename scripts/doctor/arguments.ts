import { commandLine } from '../cli/command-line.ts';

export const help = `Usage: p2p-update doctor [--json]

Checks this node: one line a check, ok, warn or FAIL, with the commands that mend it. It changes nothing.
A check that is not possible here, or not for this user, is skipped: root sees most.

  --json           one JSON object (docs/doctor.md)
  --help

The configuration is /etc/p2p-update/config.json, or the file that P2P_UPDATE_CONFIG names.

Exit status: 0 all ok, 1 warnings only, 2 some check failed, 64 usage.
`;

const { parse } = commandLine('doctor');

export interface DoctorOptions {
  json: boolean;
}

/** Decides what the arguments ask for; undefined is help. Throws UpdateError `usage`. */
export function parseCommand(args: string[]): DoctorOptions | undefined {
  const { values } = parse({
    args,
    options: {
      json: { type: 'boolean', default: false },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  return values.help ? undefined : { json: values.json };
}
