import { commandLine } from '../cli/command-line.ts';

export const help = `Usage: p2p-update keys list [FILE] [--text]
       p2p-update keys add PUB.pem --root-key FILE [--root | --channels a,b]
       p2p-update keys remove ID... --root-key FILE
       p2p-update keys set [ID --channels a,b] --root-key FILE
       p2p-update keys countersign PROPOSAL --root-key FILE
       p2p-update keys send PROPOSAL

Shows and changes the keys that may sign for the fleet. add, remove and set write a proposal for the
next key set: a text file to mail or carry. As many root keys have to sign it as the key set in force
requires; then any node that submits can send it.
  list          show the key set in force here, or that of FILE: a proposal or a key-set file
  add           add a release key, or with --root a root key, from the .pub file of keygen
  remove        remove keys, by id or by the beginning of an id
  set           set thresholds, or the channels of a release key
  countersign   show the changes of a proposal, and sign it
  send          publish a complete proposal, and announce it to the fleet

Options:
  --root-key FILE       a private root key, mode 0600; may be given several times
  --with ID,ID          the root keys that will countersign (default: all, when all are needed)
  --channels a,b        the channels that a release key may sign for; '*' is all (default of add)
  --threshold N         release keys that have to sign an update
  --root-threshold N    root keys that have to sign a key set
  --out PROPOSAL        the file to write (default: keyset-N.proposal.json)
  --keyset FILE         the key set in force, on a machine that is no node
  --text                the canonical text alone, as "keySetFile" has it
  --dry-run             print what would be done; change nothing
  --json                one JSON object on standard output
  --help

The configuration is /etc/p2p-update/config.json, or the file that P2P_UPDATE_CONFIG names.

Exit status: 0 done, 64 usage, 65 not a proposal, or an altered one, 69 Transmission or Serf is
down (the announcement is kept: submit --resend), 75 the disk failed, 76 refused, 77 not
trusted: another fleet, no root key, a bad signature; 78 configuration.
`;

const { parse, usage, unknownWord } = commandLine('keys');

/** Options of a change to the key set, the same for `keys` and `submit new.pem`. */
export const changeOptions = {
  'root-key': { type: 'string', multiple: true },
  with: { type: 'string' },
  root: { type: 'boolean' },
  channels: { type: 'string' },
  threshold: { type: 'string' },
  'root-threshold': { type: 'string' },
  out: { type: 'string' },
} as const;

/** The values of {@link changeOptions} as parseArgs returns them. */
export interface ChangeValues {
  'root-key'?: string[] | undefined;
  with?: string | undefined;
  root?: boolean | undefined;
  channels?: string | undefined;
  threshold?: string | undefined;
  'root-threshold'?: string | undefined;
  out?: string | undefined;
}

/** A change as it was asked for; the files have not been looked at. */
export interface ChangeRequest {
  action:
    | { kind: 'add'; file: string; isRoot: boolean; channels: string[] | null }
    | { kind: 'remove'; ids: string[] }
    | { kind: 'set'; limit: { id: string; channels: string[] | null } | undefined };
  rootThreshold: number | undefined;
  releaseThreshold: number | undefined;
  rootKeyFiles: string[];
  with: string[];
  out: string | undefined;
}

interface Common {
  /** File of the key set in force; undefined: this node's own. */
  keySetFile: string | undefined;
  dryRun: boolean;
  json: boolean;
}

export type Command =
  | ({ kind: 'list'; file: string | undefined; text: boolean } & Common)
  | ({ kind: 'change'; request: ChangeRequest } & Common)
  | ({ kind: 'countersign'; file: string; rootKeyFiles: string[] } & Common)
  | ({ kind: 'send'; file: string } & Common);

/** Decides what the arguments ask for; undefined is help. Throws UpdateError `usage`. */
export function parseCommand(args: string[]): Command | undefined {
  const { values, positionals } = parseOptions(args);
  if (values.help === true) return undefined;
  const [name, ...operands] = positionals;
  const common: Common = {
    keySetFile: values.keyset,
    dryRun: values['dry-run'] ?? false,
    json: values.json ?? false,
  };
  switch (name) {
    case 'list':
      refuseOthers(name, values, ['text', 'keyset', 'json']);
      return { kind: 'list', file: atMostOne(operands), text: values.text ?? false, ...common };
    case 'add':
    case 'remove':
    case 'set':
      refuseOthers(name, values, [...optionsOf[name], 'keyset', 'json', 'dry-run']);
      return { kind: 'change', request: parseChange(name, operands, values), ...common };
    case 'countersign': {
      refuseOthers(name, values, ['root-key', 'keyset', 'json', 'dry-run']);
      const rootKeyFiles = needRootKey(values);
      return { kind: 'countersign', file: one(operands, 'a proposal'), rootKeyFiles, ...common };
    }
    case 'send':
      refuseOthers(name, values, ['json', 'dry-run']);
      return { kind: 'send', file: one(operands, 'a proposal'), ...common };
    case undefined:
      throw usage('no command is named');
    default:
      throw unknownWord('command', name, [...names]);
  }
}

const names = ['list', 'add', 'remove', 'set', 'countersign', 'send'] as const;
const signing = ['root-key', 'with', 'threshold', 'root-threshold', 'out'];
const optionsOf = {
  add: [...signing, 'root', 'channels'],
  remove: signing,
  set: [...signing, 'channels'],
};

/** The change that a command and its options ask for; `submit new.pem` is an `add`. Throws UpdateError `usage`. */
export function parseChange(
  name: 'add' | 'remove' | 'set',
  operands: string[],
  values: ChangeValues,
): ChangeRequest {
  return {
    action: parseAction(name, operands, values),
    rootThreshold: parseThreshold('--root-threshold', values['root-threshold']),
    releaseThreshold: parseThreshold('--threshold', values.threshold),
    rootKeyFiles: needRootKey(values),
    with: values.with === undefined ? [] : values.with.split(','),
    out: values.out,
  };
}

function parseAction(
  name: 'add' | 'remove' | 'set',
  operands: string[],
  values: ChangeValues,
): ChangeRequest['action'] {
  const channels = parseChannels(values.channels);
  switch (name) {
    case 'add': {
      const isRoot = values.root ?? false;
      if (isRoot && channels !== undefined) throw usage('a root key has no channels');
      const file = one(operands, 'a public key file');
      return { kind: 'add', file, isRoot, channels: channels ?? null };
    }
    case 'remove':
      if (operands.length === 0) throw usage('no key is named');
      return { kind: 'remove', ids: operands };
    case 'set': {
      const id = atMostOne(operands);
      if ((id === undefined) !== (channels === undefined))
        throw usage('the id of a release key and --channels go together');
      const thresholds = [values.threshold, values['root-threshold']];
      if (id === undefined && thresholds.every((each) => each === undefined))
        throw usage('set needs a threshold, or an id with --channels');
      const limit = id === undefined || channels === undefined ? undefined : { id, channels };
      return { kind: 'set', limit };
    }
  }
}

function parseOptions(args: string[]) {
  return parse({
    args,
    allowPositionals: true,
    options: {
      ...changeOptions,
      keyset: { type: 'string' },
      text: { type: 'boolean' },
      'dry-run': { type: 'boolean' },
      json: { type: 'boolean' },
      help: { type: 'boolean', short: 'h' },
    },
  });
}

function refuseOthers(command: string, values: object, allowed: readonly string[]): void {
  const other = Object.keys(values).find((option) => !allowed.includes(option));
  if (other !== undefined) throw usage(`--${other} has no meaning with ${command}`);
}

/** Null is all channels. The names are checked with the key set. */
function parseChannels(text: string | undefined): string[] | null | undefined {
  if (text === undefined) return undefined;
  return text === '*' ? null : text.split(',');
}

function parseThreshold(option: string, text: string | undefined): number | undefined {
  if (text === undefined || /^[1-3]$/.test(text))
    return text === undefined ? undefined : Number(text);
  throw usage(`${option} must be 1 to 3, not ${JSON.stringify(text)}`);
}

function needRootKey(values: ChangeValues): string[] {
  if (values['root-key'] !== undefined) return values['root-key'];
  throw usage('--root-key FILE is needed: a root key signs every change of the key set');
}

function one(operands: string[], what: string): string {
  const operand = atMostOne(operands);
  if (operand === undefined) throw usage(`${what} must be named`);
  return operand;
}

function atMostOne(operands: string[]): string | undefined {
  if (operands.length > 1) throw usage(`one at a time, not ${operands.length}`);
  return operands[0];
}
