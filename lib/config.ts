import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { isChannel } from './announcement/fields.ts';
import type { NodeIdentity } from './announcement/target.ts';
import { UpdateError, hasErrno } from './errors.ts';

/** Program that set-up places for Transmission to run when a download is complete. */
export const hookFile = '/etc/p2p-update/transmission-done';

/**
 * Programs of which Transmission's script-torrent-done should be one, the best one first. Where the handlers
 * start the reconciler only the handler will do; it does not run in the unit of Debian 13.
 *
 * @param codeDir directory of the code, which has dist/
 */
export function completionHooks({ trigger }: Pick<Config, 'trigger'>, codeDir: string): string[] {
  const handler = join(codeDir, 'dist', 'handlers', 'transmission-done.cjs');
  return trigger === 'spool' ? [hookFile, handler] : [handler];
}

/** Path of the configuration file, unless P2P_UPDATE_CONFIG names another. */
export const defaultConfigFile = '/etc/p2p-update/config.json';

/** A node's configuration: every path absolute, every limit in the unit of its name. */
export interface Config {
  /** Written by the handlers and advance: announcements, progress, .torrent files, events.log. */
  stateDir: string;
  /** Written by the apply side, root: outcomes, key sets, staging, Puppet's logs, its events.log. */
  applyDir: string;
  /** The trusted keys of the fleet, canonical key-set text. */
  keySetFile: string;
  /** Private release keys, on a node that submits only. */
  signingKeyFiles: string[];
  /** Transmission's download directory for updates. */
  downloadDir: string;
  /** Content that was submitted on this node and is seeded from it; the daemon must be able to read it. */
  publishDir: string;
  /** Destination of updates of kind `file`. */
  deliveryDir: string;
  /** `spool`: a systemd path unit or cron sees the facts; `spawn`: the handler starts reconcile. */
  trigger: 'spool' | 'spawn';
  /** The name that targets are evaluated on, root's word and not Serf's; null: the host name. */
  nodeName: string | null;
  /** The tags that targets are evaluated on, root's word and not Serf's. */
  tags: Record<string, string>;
  /** Accept bare, unsigned .torrent payloads; for a closed lab only. */
  allowUnsigned: boolean;
  /** The channels that this node follows; null means all. */
  channels: string[] | null;
  maxContentBytes: number;
  /** Applied versions of each channel whose content stays, the current one among them, for a roll-back. */
  keepVersions: number;
  /** Period of asking other nodes for missed updates; larger fleets ask less often. */
  catchUpSeconds: number;
  /** Age of the newest announcement at which a fleet is stale (freeze attack, TUF 1.5.2); null: never. */
  staleAfterSeconds: number | null;
  transmission: { url: string; credentialsFile: string | null; timeoutSeconds: number };
  serf: {
    command: string;
    rpcAddress: string;
    rpcAuthFile: string | null;
    timeoutSeconds: number;
    /** The longest payload that this node's agent sends: more with a higher user_event_size_limit. */
    maxPayloadChars: number;
  };
  puppet: {
    command: string;
    timeoutSeconds: number;
    confDir: string;
    varDir: string;
    /** The directory of the module path that holds a symlink for each installed module. */
    moduleDir: string;
    /** Further module directories, after moduleDir. */
    modulePath: string[];
  };
}

type Guard<T> = (value: unknown, name: string) => T;

class Invalid extends Error {}

const absolutePath: Guard<string> = (value, name) => {
  if (typeof value !== 'string' || !value.startsWith('/') || value.includes('\0'))
    throw new Invalid(`"${name}" must be an absolute path`);
  return value;
};
const text: Guard<string> = (value, name) => {
  if (typeof value !== 'string' || value === '') throw new Invalid(`"${name}" must be text`);
  return value;
};
const textByText: Guard<Record<string, string>> = (value, name) => {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new Invalid(`"${name}" must be an object`);
  const entries = Object.entries(value).map(([key, entry]) => [key, text(entry, `${name}.${key}`)]);
  return Object.fromEntries(entries) as Record<string, string>;
};
const flag: Guard<boolean> = (value, name) => {
  if (typeof value !== 'boolean') throw new Invalid(`"${name}" must be true or false`);
  return value;
};
const oneOf =
  <T extends string>(...choices: T[]): Guard<T> =>
  (value, name) => {
    const choice = choices.find((candidate) => candidate === value);
    if (choice === undefined) throw new Invalid(`"${name}" must be one of ${choices.join(', ')}`);
    return choice;
  };
const integer =
  (min: number, max: number): Guard<number> =>
  (value, name) => {
    if (typeof value !== 'number' || !Number.isInteger(value) || value < min || value > max)
      throw new Invalid(`"${name}" must be a whole number from ${min} to ${max}`);
    return value;
  };
const listOf =
  <T>(guard: Guard<T>): Guard<T[]> =>
  (value, name) => {
    if (!Array.isArray(value)) throw new Invalid(`"${name}" must be a list`);
    return value.map((entry, index) => guard(entry, `${name}[${index}]`));
  };
const orNull =
  <T>(guard: Guard<T>): Guard<T | null> =>
  (value, name) =>
    value === null ? null : guard(value, name);

/** A JSON object with exactly the given members, each with its guard and its default. */
const record =
  <T extends object>(members: { [K in keyof T]: [Guard<T[K]>, T[K]] }): Guard<T> =>
  (value, name) => {
    if (typeof value !== 'object' || value === null || Array.isArray(value))
      throw new Invalid(name === '' ? 'it must be a JSON object' : `"${name}" must be an object`);
    const prefix = name === '' ? '' : `${name}.`;
    const given = new Map<string, unknown>(Object.entries(value));
    const entries = Object.entries<[Guard<unknown>, unknown]>(members);
    const unknown = [...given.keys()].filter((key) => !Object.hasOwn(members, key));
    if (unknown.length > 0)
      throw new Invalid(
        `unknown key ${unknown.map((key) => JSON.stringify(prefix + key)).join(', ')}`,
      );
    return Object.fromEntries<unknown>(
      entries.map(([key, [guard, fallback]]) => [
        key,
        given.has(key) ? guard(given.get(key), prefix + key) : fallback,
      ]),
    ) as T;
  };

const channelName: Guard<string> = (value, name) => {
  if (typeof value !== 'string' || !isChannel(value))
    throw new Invalid(`"${name}" must be a channel: 1 to 24 of a-z 0-9 . _ -`);
  return value;
};

const transmission: [Guard<Config['transmission']>, Config['transmission']] = withDefaults(
  record<Config['transmission']>({
    url: [text, 'http://127.0.0.1:9091/transmission/rpc'],
    credentialsFile: [orNull(absolutePath), '/etc/p2p-update/transmission.json'],
    timeoutSeconds: [integer(1, 300), 10],
  }),
);
const serf: [Guard<Config['serf']>, Config['serf']] = withDefaults(
  record<Config['serf']>({
    command: [text, 'serf'],
    rpcAddress: [text, '127.0.0.1:7373'],
    rpcAuthFile: [orNull(absolutePath), null],
    timeoutSeconds: [integer(1, 300), 10],
    maxPayloadChars: [integer(468, 900), 468],
  }),
);
const puppet: [Guard<Config['puppet']>, Config['puppet']] = withDefaults(
  record<Config['puppet']>({
    command: [text, 'puppet'],
    timeoutSeconds: [integer(1, 86_400), 1800],
    confDir: [absolutePath, '/etc/puppet'],
    varDir: [absolutePath, '/var/cache/puppet'],
    moduleDir: [absolutePath, '/etc/puppet/code/modules'],
    modulePath: [listOf(absolutePath), ['/usr/share/puppet/modules']],
  }),
);

function withDefaults<T>(guard: Guard<T>): [Guard<T>, T] {
  return [guard, guard({}, '')];
}

const schema = record<Config>({
  stateDir: [absolutePath, '/var/lib/p2p-update/state'],
  applyDir: [absolutePath, '/var/lib/p2p-update/apply'],
  keySetFile: [absolutePath, '/etc/p2p-update/keyset.txt'],
  signingKeyFiles: [listOf(absolutePath), []],
  downloadDir: [absolutePath, '/var/lib/transmission-daemon/downloads'],
  publishDir: [absolutePath, '/var/lib/p2p-update/publish'],
  deliveryDir: [absolutePath, '/var/lib/p2p-update/files'],
  trigger: [oneOf('spool', 'spawn'), 'spool'],
  nodeName: [orNull(text), null],
  tags: [textByText, {}],
  allowUnsigned: [flag, false],
  channels: [orNull(listOf(channelName)), null],
  maxContentBytes: [integer(1, 2 ** 48 - 1), 8 * 2 ** 30],
  keepVersions: [integer(1, 16), 3],
  catchUpSeconds: [integer(5, 86_400), 60],
  staleAfterSeconds: [orNull(integer(60, 2 ** 31 - 1)), 30 * 86_400],
  transmission,
  serf,
  puppet,
});

/**
 * Reads and checks the configuration of this node.
 *
 * @param env where P2P_UPDATE_CONFIG may name the file
 * @throws UpdateError `configuration` when the file is missing, is not JSON, or has a key or a value
 *   that does not fit; the message names it
 */
export function loadConfig(env: NodeJS.ProcessEnv): Config {
  const file = env['P2P_UPDATE_CONFIG'] ?? defaultConfigFile;
  let json: string;
  try {
    json = readFileSync(file, 'utf8');
  } catch (cause) {
    const why = hasErrno(cause, 'ENOENT') ? 'there is no configuration file' : 'cannot read';
    throw new UpdateError('configuration', `${why} ${file}`, {
      hint: 'write one (see "Install a node" in the README), or name it in P2P_UPDATE_CONFIG',
      ...(hasErrno(cause, 'ENOENT') ? {} : { cause }),
    });
  }
  return parseConfig(json, file);
}

/** The identity of this node, for targets. */
export function identityOf({ nodeName, tags }: Pick<Config, 'nodeName' | 'tags'>): NodeIdentity {
  return { name: nodeName ?? hostname(), tags };
}

/** Checks configuration text; `file` is named in errors. Throws as {@link loadConfig} does. */
export function parseConfig(json: string, file: string): Config {
  try {
    return schema(JSON.parse(json), '');
  } catch (cause) {
    const why = cause instanceof Invalid ? cause.message : 'it is not JSON';
    throw new UpdateError('configuration', `the configuration ${file} is not usable: ${why}`, {
      hint: 'correct the file; the README lists every key with its default',
      ...(cause instanceof Invalid ? {} : { cause }),
    });
  }
}
