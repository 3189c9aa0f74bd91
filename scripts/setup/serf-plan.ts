import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { shellCommand } from '../../lib/command-hint.ts';
import { UpdateError } from '../../lib/errors.ts';
import { isRecord } from '../../lib/system/json.ts';
import {
  debianSerfDirectory,
  type Handler,
  isSampleMember,
  parseHandler,
  texts,
} from '../doctor/serf-config.ts';
import { type PlannedFile, publicFile, secretFile } from './plan.ts';
import type { Machine } from './rules.ts';

export const serfDirectory = debianSerfDirectory;
/** Files that set-up writes, of those that the agent reads in the order of their names. */
export const serfFile = join(serfDirectory, '10-p2p-update.json');
export const serfKeysFile = join(serfDirectory, '20-p2p-update-keys.json');

export interface SerfWish {
  /** The shipped serf.json, with the programs of this installation. */
  sample: Readonly<Record<string, unknown>>;
  /** Port of Transmission for tag `bt`. */
  bt: string;
  /** Members to join; null: those that are there. */
  join: readonly string[] | null;
  /** `encrypt_key` of the fleet; null: the one that is there, or else a new one. */
  gossipKey: string | null;
  nodeName: string | null;
  /** Address for the fleet; null: Serf chooses it. */
  address: string | null;
  /** `serf.rpcAddress` of config.json. */
  rpcAddress: string;
  /** The RPC key that p2p-update has already. */
  rpcKey: string | undefined;
  /** Makes a new secret of 32 bytes, in base64. */
  makeKey: () => string;
}

export interface SerfPlan {
  files: PlannedFile[];
  /** Whether the files tell the agent its address; it looks for one by itself otherwise. */
  hasAddress: boolean;
  gossipKey: string;
  rpcKey: string;
}

interface SerfFile {
  path: string;
  value: Record<string, unknown>;
  text: string;
}

/** Settings without which p2p-update does not work: another value is refused. All others are the person's. */
const needed = new Set([
  ...['snapshot_path', 'replay_on_join', 'rejoin_after_leave', 'skip_leave_on_interrupt'],
  ...['rpc_addr', 'encrypt_key', 'node_name', 'advertise'],
]);

/**
 * Plans the two files of Serf's agent that are set-up's. What other files of the directory say counts as
 * said, and is not said again: lists grow there, and of two values the later one counts (MergeConfig in
 * serf/cmd/serf/command/agent/config.go).
 *
 * @throws UpdateError `configuration` for a file that is not JSON, or a setting that p2p-update cannot work
 *   with; the message names file and line
 */
export function planSerf(wish: SerfWish, machine: Pick<Machine, 'list' | 'read'>): SerfPlan {
  const all = machine
    .list(serfDirectory)
    .filter((name) => name.endsWith('.json'))
    .map((name) => readSerfFile(join(serfDirectory, name), machine));
  const own = all.find(({ path }) => path === serfFile);
  const ownKeys = all.find(({ path }) => path === serfKeysFile);
  const others = all.filter((file) => file !== own && file !== ownKeys);
  const refused = all.find(({ value }) => 'keyring_file' in value);
  if (refused !== undefined)
    throw conflict(refused.path, 'keyring_file', 'the gossip key must be in encrypt_key');

  const gossipKey = textOf(others, 'encrypt_key') ?? wish.gossipKey ?? textOf(all, 'encrypt_key');
  const rpcKey = textOf(others, 'rpc_auth') ?? wish.rpcKey ?? textOf(all, 'rpc_auth');
  const keys = { encrypt_key: gossipKey ?? wish.makeKey(), rpc_auth: rpcKey ?? wish.makeKey() };
  if (wish.gossipKey !== null) requireValue(others, 'encrypt_key', wish.gossipKey);

  const value = planValue(wish, own, others);
  for (const file of others)
    if (texts(file.value['retry_join']).some(isSampleMember))
      throw conflict(file.path, 'retry_join', 'it has the names of the sample');

  const keysLeft = Object.fromEntries(
    Object.entries(keys).filter(([key]) => !others.some((file) => key in file.value)),
  );
  const settings = [value, ...others.map((file) => file.value)];
  return {
    hasAddress: settings.some(tellsAddress),
    gossipKey: keys.encrypt_key,
    rpcKey: keys.rpc_auth,
    files: [
      planFile(serfFile, publicFile, value, own),
      ...(Object.keys(keysLeft).length === 0 && ownKeys === undefined
        ? []
        : [planFile(serfKeysFile, secretFile, { ...ownKeys?.value, ...keysLeft }, ownKeys)]),
    ],
  };
}

function tellsAddress({ advertise, bind, interface: device }: Record<string, unknown>): boolean {
  // Any address, with or without a port: no address.
  const isAny = typeof bind !== 'string' || /^(0\.0\.0\.0|\[?::\]?)?(:\d+)?$/.test(bind);
  return !isAny || [advertise, device].some((each) => typeof each === 'string' && each !== '');
}

/** The settings of set-up's own file. */
function planValue(
  wish: SerfWish,
  own: SerfFile | undefined,
  others: readonly SerfFile[],
): Record<string, unknown> {
  const { event_handlers: handlers, tags, ...sample } = wish.sample;
  const value: Record<string, unknown> = {
    ...own?.value,
    event_handlers: planHandlers(texts(handlers), own, others),
    tags: planTags({ ...(isRecord(tags) ? tags : {}), bt: wish.bt }, own, others),
  };
  const wanted: Record<string, unknown> = {
    ...sample,
    rpc_addr: wish.rpcAddress,
    ...(wish.nodeName === null ? {} : { node_name: wish.nodeName }),
    ...(wish.address === null ? {} : { advertise: wish.address }),
  };
  // The members to join are those of the wish.
  delete wanted['retry_join'];
  for (const [key, setting] of Object.entries(wanted)) {
    if (others.some((file) => key in file.value)) {
      if (needed.has(key)) requireValue(others, key, setting);
      continue;
    }
    // The name and the address are the person's word of today; the rest was set-up's, or his own since.
    const isNew = key === 'node_name' || key === 'advertise';
    if (!isNew && needed.has(key) && own !== undefined) requireValue([own], key, setting);
    if (isNew || !(key in value)) value[key] = setting;
  }
  const known = texts(own?.value['retry_join']).filter((each) => !isSampleMember(each));
  value['retry_join'] = unique([...known, ...(wish.join ?? [])]).filter(
    (each) => !others.some((file) => texts(file.value['retry_join']).includes(each)),
  );
  return value;
}

/** The tags of set-up's own file: those that no other file has, besides what a person added. */
function planTags(
  wanted: Record<string, unknown> & { bt: string },
  own: SerfFile | undefined,
  others: readonly SerfFile[],
): Record<string, unknown> {
  requireTag(others, 'bt', wanted.bt);
  const tags = Object.entries({ ...tagsOf(own), ...wanted });
  return Object.fromEntries(tags.filter(([key]) => !others.some((file) => key in tagsOf(file))));
}

function readSerfFile(path: string, { read }: Pick<Machine, 'read'>): SerfFile {
  const text = read(path) ?? '';
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    // Not the parser's message: it quotes the text, in which there may be keys.
  }
  if (isRecord(value)) return { path, value, text };
  throw new UpdateError('configuration', `${path} is not a JSON object`, {
    hint: `Serf's agent does not start with it: ${shellCommand('editor', path)}`,
  });
}

/** The handlers of set-up's own file: those that no other file has, besides what a person added. */
function planHandlers(
  wanted: readonly string[],
  own: SerfFile | undefined,
  others: readonly SerfFile[],
): string[] {
  const handlersOf = (file: SerfFile | undefined): string[] => texts(file?.value['event_handlers']);
  const isOurs = (text: string): boolean =>
    wanted.some((each) => isSameHandler(parseHandler(each), parseHandler(text)));
  for (const file of others)
    for (const text of handlersOf(file))
      if (isOurs(text) && !wanted.includes(text))
        throw conflict(
          file.path,
          'event_handlers',
          `${JSON.stringify(text)} is a program of p2p-update that is not this one: remove it`,
        );
  const elsewhere = others.flatMap(handlersOf);
  return [
    ...wanted.filter((text) => !elsewhere.includes(text)),
    ...handlersOf(own).filter((text) => !isOurs(text)),
  ];
}

/** Whether two handlers are for one event, and of one name in a `handlers` folder of p2p-update. */
function isSameHandler(one: Handler, other: Handler): boolean {
  const name = (program: string): string => program.slice(program.lastIndexOf('/'));
  return (
    one.event === other.event &&
    name(one.program) === name(other.program) &&
    other.program.includes('p2p-update')
  );
}

function requireValue(files: readonly SerfFile[], key: string, wanted: unknown): void {
  const file = files.find(({ value }) => key in value && !isDeepStrictEqual(value[key], wanted));
  if (file === undefined) return;
  throw conflict(
    file.path,
    key,
    key === 'encrypt_key'
      ? 'it is not the gossip key of the fleet'
      : `${JSON.stringify(file.value[key])} must be ${JSON.stringify(wanted)}`,
  );
}

function requireTag(files: readonly SerfFile[], tag: string, wanted: string): void {
  const file = files.find((each) => tag in tagsOf(each) && tagsOf(each)[tag] !== wanted);
  if (file !== undefined)
    throw conflict(file.path, 'tags', `"${tag}" must be ${JSON.stringify(wanted)}`);
}

/** Where a value is a secret, `why` does not repeat it. */
function conflict(path: string, key: string, why: string): UpdateError {
  return new UpdateError('configuration', `"${key}" in ${path}: ${why}`, {
    hint: `correct or remove that line, then run setup again: ${shellCommand('editor', path)}`,
  });
}

/** The value that the agent takes: that of the last file. */
function textOf(files: readonly SerfFile[], key: string): string | undefined {
  const found = files.findLast(({ value }) => key in value)?.value[key];
  return typeof found === 'string' && found !== '' ? found : undefined;
}

function tagsOf(file: SerfFile | undefined): Record<string, unknown> {
  const tags = file?.value['tags'];
  return isRecord(tags) ? tags : {};
}

function unique(words: readonly string[]): string[] {
  return [...new Set(words)];
}

function planFile(
  path: string,
  ownership: PlannedFile['ownership'],
  value: Record<string, unknown>,
  old: SerfFile | undefined,
): PlannedFile {
  const isSame = old !== undefined && isDeepStrictEqual(value, old.value);
  return { path, ownership, text: isSame ? old.text : `${JSON.stringify(value, null, 2)}\n` };
}
