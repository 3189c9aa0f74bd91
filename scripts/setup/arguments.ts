import { realpathSync } from 'node:fs';
import { isIP } from 'node:net';
import { isJoinAddress } from '../../lib/trust/invitation.ts';
import { isFleetId } from '../../lib/trust/key-set.ts';
import { commandLine } from '../cli/command-line.ts';

export const help = `Usage: p2p-update setup --new-fleet NAME [options]
       p2p-update setup --join ADDRESS --token - [options]
       p2p-update setup --invite FILE [options]
       p2p-update setup [options]
       p2p-update setup --remove [options]

Makes this machine a node, as root: the user p2p-update, the directories, the configuration of p2p-update,
Serf and Transmission, the units of systemd or the lines for cron; then starts the daemons. Safe to
repeat, also after an interruption: it changes only what differs, and reports each change. Settings of
your own are kept; one that p2p-update cannot work with is refused, never overwritten.

Fleet:
  --new-fleet NAME  the first node: makes the keys of the fleet, and prints the line for the next machine
  --join ADDRESS    a further node: a member to join, HOST or HOST:PORT; repeatable
  --token -         the invitation, read from standard input; without it, asked for on the terminal
  --invite FILE     the invitation from a file, as p2p-update invite --out makes it
  --keyset FILE     places the fleet's key set alone; Serf and Transmission are set up by hand

Options:
  --node-name NAME  this node's name, in targets and in Serf (default: the host name)
  --tag KEY=VALUE   a tag of this node in targets; repeatable, other tags stay
  --address ADDR    the IP address of this machine for the fleet, where it has several
  --systemd         install units (the default where systemd runs, or is in the image)
  --cron            install /etc/cron.d/p2p-update instead; the choice is remembered
  --root DIR        set up the image below DIR, with the ids of its etc/passwd and etc/group
  --yes             do not ask before daemons are stopped and started
  --remove          undo it: keys of the fleet and delivered files stay
  --dry-run         show what would be done, with the text of each file, change nothing
  --json            one JSON object on standard output
  --help

Exit status: 0 done, 64 usage, 65 the invitation or the key set is malformed, 69 a program or a member
cannot be reached, 70 a step failed, 76 another fleet's keys are in place, or the invitation is not valid any
more, 78 something is in the way that setup must not repair: the message names it.
`;

const { parse, usage } = commandLine('setup');

export type Scheduler = 'systemd' | 'cron';

/** Where the keys of the fleet come from. */
export type FleetRequest =
  | { kind: 'new'; name: string }
  | {
      kind: 'join';
      /** Members named by the person, before those of the invitation. */
      addresses: string[];
      from: 'standard input' | 'terminal' | { file: string };
    };

export interface SetupRequest {
  /** Null: the one that the machine has, if any. */
  fleet: FleetRequest | null;
  keySetFile: string | null;
  nodeName: string | null;
  tags: Record<string, string>;
  /** Address that this node tells the fleet; null: Serf chooses it. */
  address: string | null;
  /** Null: the one that the machine has. */
  scheduler: Scheduler | null;
  /** Without links and without a slash at its end; `/` is this machine. */
  root: string;
  yes: boolean;
  remove: boolean;
  dryRun: boolean;
  json: boolean;
}

/** Decides what the arguments ask for; undefined is help. Throws UpdateError `usage`. */
export function parseRequest(args: string[]): SetupRequest | undefined {
  const values = parseOptions(args);
  if (values.help === true) return undefined;
  if (values.systemd === true && values.cron === true)
    throw usage('--systemd and --cron exclude each other: all work would be done twice');
  const scheduler = values.systemd === true ? 'systemd' : values.cron === true ? 'cron' : null;
  const nodeName = values['node-name'] ?? null;
  if (nodeName === '') throw usage('--node-name needs a name');
  const fleet = parseFleet(values);
  const { remove = false, keyset = null, address = null } = values;
  if (keyset !== null && fleet !== null)
    throw usage(
      '--keyset is for a node that is set up by hand: --new-fleet and --join bring the keys',
    );
  if (remove && (fleet !== null || keyset !== null))
    throw usage('--remove takes the node out of its fleet: it takes no keys');
  if (address !== null && isIP(address) === 0) throw usage('--address needs an IP address');
  return {
    ...{ fleet, keySetFile: keyset, nodeName, address, scheduler, remove },
    tags: Object.fromEntries((values.tag ?? []).map(parseTag)),
    root: parseRoot(values.root ?? '/'),
    yes: values.yes ?? false,
    dryRun: values['dry-run'] ?? false,
    json: values.json ?? false,
  };
}

function parseOptions(args: string[]) {
  return parse({
    args,
    options: {
      'new-fleet': { type: 'string' },
      join: { type: 'string', multiple: true },
      token: { type: 'string' },
      invite: { type: 'string' },
      keyset: { type: 'string' },
      'node-name': { type: 'string' },
      tag: { type: 'string', multiple: true },
      address: { type: 'string' },
      systemd: { type: 'boolean' },
      cron: { type: 'boolean' },
      root: { type: 'string' },
      yes: { type: 'boolean', short: 'y' },
      remove: { type: 'boolean' },
      'dry-run': { type: 'boolean' },
      json: { type: 'boolean' },
      help: { type: 'boolean', short: 'h' },
    },
  }).values;
}

function parseFleet(values: ReturnType<typeof parseOptions>): FleetRequest | null {
  const { 'new-fleet': name, join, token, invite } = values;
  if (name !== undefined) {
    if (join !== undefined || token !== undefined || invite !== undefined)
      throw usage('--new-fleet makes a fleet, --join and --invite enter one: give one of them');
    if (!isFleetId(name))
      throw usage('--new-fleet needs a name, 1 to 64 printable ASCII characters without a space');
    return { kind: 'new', name };
  }
  // The value is not repeated: it may be the secret itself.
  if (token !== undefined && token !== '-')
    throw usage(
      '--token takes only -, for standard input: a secret in the arguments is seen by every user of the machine',
    );
  if (token !== undefined && invite !== undefined)
    throw usage('--token and --invite are two ways to give the same: give one of them');
  if (join === undefined && token === undefined && invite === undefined) return null;
  const wrong = join?.find((address) => !isJoinAddress(address));
  if (wrong !== undefined)
    throw usage(`--join needs HOST or HOST:PORT, not ${JSON.stringify(wrong)}`);
  const from =
    invite !== undefined ? { file: invite } : token !== undefined ? 'standard input' : 'terminal';
  return { kind: 'join', addresses: join ?? [], from };
}

function parseTag(text: string): [string, string] {
  const at = text.indexOf('=');
  if (at < 1 || at === text.length - 1)
    throw usage(`--tag needs KEY=VALUE, not ${JSON.stringify(text)}`);
  return [text.slice(0, at), text.slice(at + 1)];
}

function parseRoot(directory: string): string {
  try {
    return realpathSync(directory);
  } catch (cause) {
    throw usage(`there is no directory ${JSON.stringify(directory)}`, cause);
  }
}
