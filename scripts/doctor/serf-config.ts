import { join, resolve } from 'node:path';
import { type DaemonProcess, optionOf } from '../../lib/system/daemon-process.ts';
import { isRecord } from '../../lib/system/json.ts';
import type { Machine } from '../setup/rules.ts';

/** Where Debian's agent has its configuration. */
export const debianSerfDirectory = '/etc/serf';

/** Configuration of Serf's agent, merged from its files as the agent does it; secrets stay in here. */
export interface SerfConfig {
  directory: string;
  /** The files that have the members to join, and the keys; or those that the guide names. */
  joinFile: string;
  keysFile: string;
  /** Files that were read. */
  files: string[];
  /** Files that this user may not read. */
  closed: string[];
  /** Files that are not JSON: the agent does not start. */
  malformed: string[];
  /** As written: `user:update=/path/of/program`. */
  handlers: string[];
  /** Names and addresses to join. */
  join: string[];
  /** Whether the agent remembers its members, and joins them after a restart: `snapshot_path`. */
  hasSnapshot: boolean;
  /** `encrypt_key`: a secret, as is `rpcAuth`. */
  encryptKey: string | undefined;
  rpcAuth: string | undefined;
  /** Tag `bt`: the port of Transmission. */
  bt: string | undefined;
}

/** Reads the configuration files of Serf's agent in their order. */
export function readSerfConfig(
  machine: Pick<Machine, 'list' | 'read'>,
  directory = debianSerfDirectory,
): SerfConfig {
  const config: SerfConfig = {
    ...{ directory, joinFile: join(directory, '10-p2p-update.json') },
    keysFile: join(directory, '20-p2p-update-keys.json'),
    ...{ files: [], closed: [], malformed: [], handlers: [], join: [], hasSnapshot: false },
    ...{ encryptKey: undefined, rpcAuth: undefined, bt: undefined },
  };
  for (const file of listed(machine, directory)) {
    let text: string | undefined;
    try {
      text = machine.read(file);
    } catch {
      config.closed.push(file);
      continue;
    }
    const value = parse(text ?? '');
    if (value === undefined) config.malformed.push(file);
    else add(config, file, value);
  }
  return config;
}

function listed(machine: Pick<Machine, 'list'>, directory: string): string[] {
  try {
    return machine
      .list(directory)
      .filter((name) => name.endsWith('.json'))
      .map((name) => join(directory, name));
  } catch {
    return [];
  }
}

function parse(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return isRecord(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

/** Merges one file: lists grow, other values replace (MergeConfig in serf/cmd/serf/command/agent/config.go). */
function add(config: SerfConfig, file: string, value: Record<string, unknown>): void {
  const text = (key: string): string | undefined => {
    const found = value[key];
    return typeof found === 'string' && found !== '' ? found : undefined;
  };
  config.files.push(file);
  if ('retry_join' in value) config.joinFile = file;
  if ('encrypt_key' in value || 'rpc_auth' in value) config.keysFile = file;
  config.handlers.push(...texts(value['event_handlers']));
  config.join.push(...texts(value['retry_join']), ...texts(value['start_join']));
  config.hasSnapshot ||= text('snapshot_path') !== undefined;
  config.encryptKey = text('encrypt_key') ?? config.encryptKey;
  config.rpcAuth = text('rpc_auth') ?? config.rpcAuth;
  const tags = value['tags'];
  const bt = isRecord(tags) ? tags['bt'] : undefined;
  if (typeof bt === 'string') config.bt = bt;
}

/** The texts of a list; none where it is no list. */
export function texts(value: unknown): string[] {
  return Array.isArray(value)
    ? value.filter((each): each is string => typeof each === 'string')
    : [];
}

/** Whether a member to join is one of the sample's, which are nobody's. */
export function isSampleMember(address: string): boolean {
  return /\bnode-\d\.example\.net\b/.test(address);
}

/** Directory of an agent's configuration: by its command line, or Debian's. */
export function serfDirectoryOf(agent: DaemonProcess | undefined): string {
  return resolve((agent && optionOf(agent.argv, 'config-dir')) ?? debianSerfDirectory);
}

/** A handler of serf.json: the event, and the path of the program that the shell is given. */
export interface Handler {
  event: string;
  program: string;
}

/** Splits a handler at its first `=`, as Serf does, and reads the first word of the command as a shell does. */
export function parseHandler(text: string): Handler {
  const at = text.indexOf('=');
  // Without an event it is for all of them.
  return at < 0
    ? { event: '*', program: firstWord(text) }
    : { event: text.slice(0, at), program: firstWord(text.slice(at + 1)) };
}

function firstWord(command: string): string {
  const parts = /^\s*((?:'[^']*'|"[^"]*"|\\.|[^\s'"\\])+)/.exec(command)?.[1] ?? '';
  return parts.replace(
    /'([^']*)'|"([^"]*)"|\\(.)/g,
    (_, single?: string, double?: string, escaped?: string) => single ?? double ?? escaped ?? '',
  );
}
