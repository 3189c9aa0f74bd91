import { shellCommand } from '../../lib/command-hint.ts';
import { type Check, checkOf } from '../../lib/health/check.ts';
import { nodeUser } from '../../lib/state/layout.ts';
import { manage, type Manager } from './manager.ts';
import { type Handler, isSampleMember, parseHandler, type SerfConfig } from './serf-config.ts';

const handlersCheck = checkOf('serf-handlers', 'Serf handlers');

/**
 * Judges whether Serf's files register each handler of the shipped serf.json.
 *
 * @param wanted the handlers of serf.json, with the programs of this installation
 * @param isProgram whether a path is a program that can be run
 */
export function judgeHandlers(
  config: SerfConfig,
  wanted: readonly Handler[],
  isProgram: (path: string) => boolean,
  { sample, manager }: { sample: string; manager: Manager },
): Check {
  const { directory, files, closed, malformed } = config;
  const { ok, fail, skipped } = handlersCheck;
  const then = (verb: 'restart' | 'reload'): string[] => manage(manager, verb, 'serf');
  const install = shellCommand('install', '-m', '644', sample, `${directory}/10-p2p-update.json`);
  const [bad] = malformed;
  if (bad !== undefined)
    return fail(
      `${bad} is not a JSON object, and the agent does not start with it`,
      shellCommand('editor', bad),
      ...then('restart'),
    );
  if (files.length === 0)
    return closed.length > 0
      ? skipped(`needs root: ${directory} is closed to this user`)
      : fail(`no handler is registered in ${directory}`, install, ...then('restart'));
  const registered = config.handlers.map(parseHandler);
  const missing = wanted.filter(({ event }) => !registered.some((each) => each.event === event));
  if (missing.length > 0) {
    if (closed.length > 0)
      return skipped(`needs root: ${closed.join(', ')} is closed to this user`);
    const names = missing.map(({ event }) => event).join(', ');
    return fail(`no handler for ${names} in ${directory}`, install, ...then('reload'));
  }
  for (const { event, program } of wanted) {
    const ours = registered.filter((each) => each.event === event);
    const dead = ours.find((each) => !isProgram(each.program));
    if (dead !== undefined)
      return fail(
        `the handler for ${event}, ${dead.program}, is not a program that can be run`,
        install,
        ...then('reload'),
      );
    const name = program.slice(program.lastIndexOf('/'));
    if (!ours.some((each) => each.program.endsWith(name)))
      return handlersCheck.warn(`${event} is handled by ${ours[0]?.program ?? ''}, not ${program}`);
  }
  return ok(`${wanted.map(({ event }) => event).join(', ')} in ${directory}`);
}

const joinCheck = checkOf('serf-join', 'Serf members to join');

/**
 * Judges the members that the agent joins.
 *
 * @param alive number of members, this node included; null: unknown
 * @param own addresses and names of this node
 */
export function judgeJoin(
  { directory, joinFile, join, closed, files, hasSnapshot }: SerfConfig,
  alive: number | null,
  own: readonly string[],
  manager: Manager,
): Check {
  const { ok, warn, fail, skipped } = joinCheck;
  const edit = [shellCommand('editor', joinFile), ...manage(manager, 'restart', 'serf')];
  const others = join.filter((each) => !own.includes(each.replace(/:\d+$/, '')));
  const samples = join.filter(isSampleMember);
  if (samples.length > 0) {
    const what = `retry_join has the names of the sample, ${samples.join(' and ')}`;
    return alive !== null && alive > 1 ? warn(what, ...edit) : fail(what, ...edit);
  }
  if (alive !== null && alive <= 1 && others.length > 0)
    return fail(
      `alone: none of ${others.join(', ')} is a member; is port 7946 (TCP and UDP) open, and is encrypt_key the same?`,
      'journalctl -u serf -n 20',
      ...edit,
    );
  if (others.length === 0) {
    if (files.length === 0 && closed.length === 0)
      return skipped(`there is no configuration in ${directory}`);
    if (closed.length > 0)
      return skipped(`needs root: not every file in ${directory} can be read by this user`);
    // The first node of a fleet: it joins those of its snapshot, and where that fails they, who know it as a failed
    // member, call it (handleRejoin and reconnect in serf/serf/serf.go).
    if (hasSnapshot && alive !== null && alive > 1)
      return ok(`${alive} members alive, which the snapshot names`);
    const what = 'retry_join names no other node: after a restart this node may stay alone';
    return alive !== null && alive > 1 ? warn(what, ...edit) : ok('no other node is named');
  }
  return ok(alive === null ? others.join(', ') : `${alive} members alive`);
}

const encryptionCheck = checkOf('serf-encryption', 'Serf encryption');

/** Judges encryption by the agent's own word, where it says, else by its files. */
export function judgeEncryption(
  { encryptKey, closed, keysFile, files }: SerfConfig,
  isEncrypted: boolean | null,
  manager: Manager,
): Check {
  const { ok, fail, skipped } = encryptionCheck;
  const hasEncryptKey = encryptKey !== undefined;
  const restart = manage(manager, 'restart', 'serf');
  const write = shellCommand('install', '-m', '640', '-g', nodeUser, '/dev/null', keysFile);
  const edit = shellCommand('editor', keysFile);
  if (isEncrypted === true) return ok('gossip is encrypted');
  if (isEncrypted === false && hasEncryptKey)
    return fail('the agent runs without its encrypt_key', ...restart);
  if (isEncrypted === null && hasEncryptKey) return ok('encrypt_key is set');
  if (isEncrypted === null && closed.length > 0)
    return skipped(`needs root: ${closed.join(', ')} is closed to this user`);
  return fail(
    'gossip is not encrypted: any host can send events (encrypt_key, the same on every node)',
    ...(files.includes(keysFile) || closed.length > 0 ? [] : [write]),
    edit,
    ...restart,
  );
}

/** The RPC key of Serf on both sides; the keys themselves stay with the reader. */
export interface RpcKey {
  /** File that config.json names; null: none. */
  file: string | null;
  found: 'readable' | 'missing' | 'not by the node' | 'open to all' | 'unknown';
  /** The agent's rpc_auth compared with the file. */
  agent: 'none' | 'same' | 'differs' | 'unknown';
}

const rpcCheck = checkOf('serf-rpc-key', 'Serf RPC key');

/** Judges the agent's rpc_auth and the file of it that p2p-update reads. */
export function judgeRpcKey(
  { file, found, agent }: RpcKey,
  { directory, keysFile, user, configFile, manager }: RpcKeyContext,
): Check {
  const { ok, fail, skipped } = rpcCheck;
  const keys = shellCommand('editor', keysFile);
  const restart = manage(manager, 'restart', 'serf');
  if (file === null) {
    if (agent === 'unknown') return skipped('needs root: rpc_auth is closed to this user');
    const own = '/etc/p2p-update/serf-rpc.key';
    const make = [
      shellCommand('install', '-m', '640', '-g', user, '/dev/null', own),
      shellCommand('editor', own),
      shellCommand('editor', configFile),
    ];
    return agent === 'none'
      ? fail(
          'the agent has no rpc_auth: every local user can send events',
          ...make,
          keys,
          ...restart,
        )
      : fail(`the agent has an rpc_auth, and ${configFile} no serf.rpcAuthFile`, ...make);
  }
  const give = [shellCommand('chown', `root:${user}`, file), shellCommand('chmod', '640', file)];
  switch (found) {
    case 'missing':
      return fail(
        `${file} is missing`,
        shellCommand('install', '-m', '640', '-g', user, '/dev/null', file),
        shellCommand('editor', file),
      );
    case 'not by the node':
      return fail(`${file} cannot be read by ${user}, as which the handlers run`, ...give);
    case 'open to all':
      return fail(`${file} can be read by every user`, ...give);
    case 'unknown':
    case 'readable':
      break;
  }
  if (agent === 'none')
    return fail(
      `the agent has no rpc_auth, and every local user can send events; ${file} has the text for it`,
      keys,
      ...restart,
    );
  if (agent === 'differs')
    return fail(
      `rpc_auth in ${directory} and ${file} differ`,
      shellCommand('editor', file),
      ...restart,
    );
  if (found === 'unknown') return skipped(`needs root: ${file} is closed to this user`);
  return ok(agent === 'same' ? `the same in ${directory} and ${file}` : `${file} can be read`);
}

export interface RpcKeyContext {
  directory: string;
  keysFile: string;
  /** User of the handlers. */
  user: string;
  configFile: string;
  manager: Manager;
}
