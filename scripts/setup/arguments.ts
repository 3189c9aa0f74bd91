import { realpathSync } from 'node:fs';
import { commandLine } from '../cli/command-line.ts';

export const help = `Usage: p2p-update setup [options]

Makes this machine a node, as root: the user p2p-update, the directories with their owners and modes,
the configuration, and the units of systemd or the lines for cron. Safe to repeat: it changes only what
differs, and reports each change. No daemon is started or restarted; the commands for the rest of the
work are printed.

Options:
  --keyset FILE     the fleet's key set, as keygen made it, placed where config.json says
                    (/etc/p2p-update/keyset.txt); never replaces another one
  --node-name NAME  this node's name in targets (default: the host name)
  --tag KEY=VALUE   a tag of this node in targets; repeatable, other tags stay
  --systemd         install units (the default where systemd runs, or is in the image)
  --cron            install /etc/cron.d/p2p-update instead
  --root DIR        set up the image below DIR, with the ids of its etc/passwd and etc/group
  --dry-run         print what would be done, change nothing
  --json            one JSON object on standard output
  --help

Exit status: 0 done, 64 usage, 65 the key set is malformed, 70 a step failed, 76 another key set is in
place, 78 a path or user is in the way that setup must not repair: the message names it.
`;

const { parse, usage } = commandLine('setup');

export type Scheduler = 'systemd' | 'cron';

export interface SetupRequest {
  keySetFile: string | null;
  nodeName: string | null;
  tags: Record<string, string>;
  /** Null: the one that the machine has. */
  scheduler: Scheduler | null;
  /** Without links and without a slash at its end; `/` is this machine. */
  root: string;
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
  return {
    keySetFile: values.keyset ?? null,
    nodeName,
    tags: Object.fromEntries((values.tag ?? []).map(parseTag)),
    scheduler,
    root: parseRoot(values.root ?? '/'),
    dryRun: values['dry-run'] ?? false,
    json: values.json ?? false,
  };
}

function parseOptions(args: string[]) {
  return parse({
    args,
    options: {
      keyset: { type: 'string' },
      'node-name': { type: 'string' },
      tag: { type: 'string', multiple: true },
      systemd: { type: 'boolean' },
      cron: { type: 'boolean' },
      root: { type: 'string' },
      'dry-run': { type: 'boolean' },
      json: { type: 'boolean' },
      help: { type: 'boolean', short: 'h' },
    },
  }).values;
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
