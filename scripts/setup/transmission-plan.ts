import { createHash } from 'node:crypto';
import { isDeepStrictEqual } from 'node:util';
import { shellCommand } from '../../lib/command-hint.ts';
import type { Config } from '../../lib/config.ts';
import { requiredSettings } from '../../lib/daemons/transmission/settings.ts';
import { UpdateError } from '../../lib/errors.ts';
import { isRecord } from '../../lib/system/json.ts';

/** Name and password of Transmission's RPC, as transmission.json of p2p-update has them. */
export interface Credentials {
  username: string;
  password: string;
}

export interface TransmissionWish {
  /** docs/transmission-settings.json, whose password is no password. */
  sample: Readonly<Record<string, unknown>>;
  /** Text of the daemon's settings.json; undefined: there is none. */
  settings: string | undefined;
  settingsFile: string;
  /** Text of transmission.json; undefined: there is none. */
  credentials: string | undefined;
  credentialsFile: string;
  /** The configuration, and its members as a person wrote them. */
  config: Pick<Config, 'downloadDir' | 'transmission'>;
  written: Readonly<Record<string, unknown>>;
  /** Path of the completion hook. */
  hook: string;
  makePassword: () => string;
}

export interface TransmissionPlan {
  /** Null: settings.json stays as it is. */
  settings: string | null;
  credentials: Credentials;
  /** Members for config.json, where the daemon has a place or port of its own. */
  config: Record<string, unknown>;
  peerPort: number;
}

/**
 * Values that no person chose: Debian's settings.json, and what Transmission 3.00 and 4.1 add to it when they
 * end. Such a value is replaced; any other is kept, or refused.
 */
const untouched: Readonly<Record<string, readonly unknown[]>> = {
  'download-dir': ['/var/lib/transmission-daemon/downloads'],
  'rpc-bind-address': ['0.0.0.0', '127.0.0.1'],
  'rpc-username': ['transmission', ''],
  'script-torrent-done-filename': [''],
  umask: [18, '022', 2, '002'],
  'upload-slots-per-torrent': [8, 14],
};
/** Settings of the daemon that a person may have otherwise. */
const adopted = new Set(['peer-port', 'rpc-port', 'umask', 'upload-slots-per-torrent']);

/**
 * Plans the settings of Transmission's daemon, and the credentials that p2p-update has for it.
 *
 * @throws UpdateError `configuration` for text that is not JSON, and for a setting of the person's that
 *   p2p-update cannot work with
 */
export function planTransmission(wish: TransmissionWish): TransmissionPlan {
  const { sample, settingsFile, hook, config, written } = wish;
  const old = parseSettings(wish.settings, settingsFile);
  const credentials = planCredentials(wish, old);
  const value: Record<string, unknown> = { ...old };
  const conflict = (key: string, why: string): UpdateError =>
    new UpdateError('configuration', `"${key}" in ${settingsFile}: ${why}`, {
      hint: `stop transmission-daemon, correct that line, then run setup again: ${shellCommand('editor', settingsFile)}`,
    });

  for (const [key, wanted] of Object.entries(sample)) {
    const found = old[key];
    if (key === 'rpc-username' || key === 'rpc-password') continue;
    if (isSame(found, wanted)) continue;
    // The reconciler sets these on the running daemon, whatever the file says (docs/transmission.md).
    const isRequired = key in requiredSettings || key === 'encryption';
    const isOwn = !isRequired && isChosen(old, key);
    if (isOwn && adopted.has(key)) continue;
    if (key === 'rpc-whitelist' && typeof found === 'string') {
      value[key] = withLoopback(found);
      continue;
    }
    if (key === 'rpc-bind-address' && isOwn)
      throw conflict(key, `p2p-update talks to 127.0.0.1: make it "0.0.0.0" or "127.0.0.1"`);
    if (key === 'rpc-bind-address' && isAskedByOthers(old)) continue;
    if (key === 'download-dir' && isOwn) continue;
    value[key] = wanted;
  }
  const own = old['script-torrent-done-filename'];
  const isHookOn = old['script-torrent-done-enabled'] === true;
  if (isHookOn && typeof own === 'string' && own !== '' && !own.includes('p2p-update'))
    throw conflict(
      'script-torrent-done-filename',
      `${own} is a hook of your own, and there can be one: let it start ${hook} too, and name ${hook} here`,
    );
  value['script-torrent-done-filename'] = hook;

  const downloadDir = value['download-dir'];
  const places: Record<string, unknown> = {};
  if (downloadDir !== config.downloadDir) {
    const isChosenPlace = isChosen(old, 'download-dir');
    if (isChosenPlace && 'downloadDir' in written)
      throw conflict('download-dir', `downloadDir of config.json is ${config.downloadDir}`);
    if (isChosenPlace) places['downloadDir'] = downloadDir;
    else value['download-dir'] = config.downloadDir;
  }
  const url = `http://127.0.0.1:${String(value['rpc-port'])}${rpcPath(old)}rpc`;
  if (url !== config.transmission.url) {
    const given = written['transmission'];
    if (isRecord(given) && 'url' in given)
      throw conflict('rpc-port', `transmission.url of config.json is ${config.transmission.url}`);
    places['transmission'] = { url };
  }
  value['rpc-username'] = credentials.username;
  if (!isPassword(old['rpc-password'], credentials.password))
    value['rpc-password'] = credentials.password;
  return {
    settings: isDeepStrictEqual(value, old) ? null : `${JSON.stringify(value, null, 4)}\n`,
    credentials,
    config: places,
    peerPort: Number(value['peer-port']),
  };
}

function parseSettings(text: string | undefined, file: string): Record<string, unknown> {
  if (text === undefined) return {};
  try {
    const value: unknown = JSON.parse(text);
    if (isRecord(value)) return value;
  } catch {
    // Not the parser's message: it quotes the text, in which there may be a password.
  }
  throw new UpdateError('configuration', `${file} is not a JSON object`, {
    hint: `Transmission starts with its defaults instead: ${shellCommand('editor', file)}`,
  });
}

/** The credentials that are there, where the daemon has the same or none; or new ones. */
function planCredentials(wish: TransmissionWish, old: Record<string, unknown>): Credentials {
  const { credentialsFile, settingsFile } = wish;
  const known = parseCredentials(wish.credentials, credentialsFile);
  const hash = old['rpc-password'];
  const isFresh = hash === undefined || isPassword(hash, 'transmission') || isPassword(hash, '');
  if (known !== undefined && (isFresh || isPassword(hash, known.password))) return known;
  const name = old['rpc-username'];
  const isDefaultName = untouched['rpc-username']?.includes(name ?? '') === true;
  if (isFresh)
    return {
      username: typeof name === 'string' && !isDefaultName ? name : 'p2p-update',
      password: wish.makePassword(),
    };
  throw new UpdateError(
    'configuration',
    known === undefined
      ? `"rpc-password" in ${settingsFile} is a password of your own`
      : `"rpc-password" in ${settingsFile} is not the one in ${credentialsFile}`,
    {
      hint: `write it to ${credentialsFile}, {"username": "…", "password": "…"}, mode 0640, or set "transmission" as the password in ${settingsFile} while the daemon is stopped: setup then makes a new one`,
    },
  );
}

function parseCredentials(text: string | undefined, file: string): Credentials | undefined {
  if (text === undefined) return undefined;
  try {
    const value: unknown = JSON.parse(text);
    const { username, password } = isRecord(value) ? value : {};
    if (typeof username === 'string' && typeof password === 'string') return { username, password };
  } catch {
    // As above.
  }
  throw new UpdateError('configuration', `${file} is not {"username": "…", "password": "…"}`, {
    hint: `correct it, or remove it: ${shellCommand('editor', file)}`,
  });
}

/** Whether a password is that of settings.json: plain, or `{`, SHA-1 of it with the salt, salt (crypto-utils.cc). */
function isPassword(stored: unknown, password: string): boolean {
  if (typeof stored !== 'string') return false;
  const [, hash, salt] = /^\{([0-9a-f]{40})(.*)$/s.exec(stored) ?? [];
  if (hash === undefined || salt === undefined) return stored === password;
  return createHash('sha1').update(password).update(salt).digest('hex') === hash;
}

/** Equal, where Debian's file has 0 and 1 for false and true. */
function isSame(found: unknown, wanted: unknown): boolean {
  if (typeof wanted === 'boolean' && typeof found === 'number') return (found !== 0) === wanted;
  return isDeepStrictEqual(found, wanted);
}

/** Whether the person lets other machines ask the daemon. */
function isAskedByOthers(old: Record<string, unknown>): boolean {
  const list = old['rpc-whitelist'];
  return (
    isSame(old['rpc-whitelist-enabled'], false) ||
    (typeof list === 'string' && !/^\s*(127\.0\.0\.1|::1)?(,\s*(127\.0\.0\.1|::1))*\s*$/.test(list))
  );
}

/** Whether a person has chosen a value: it is there, and none that the package or the daemon puts there. */
function isChosen(old: Record<string, unknown>, key: string): boolean {
  const found = old[key];
  return found !== undefined && untouched[key]?.some((each) => isSame(each, found)) !== true;
}

function withLoopback(list: string): string {
  return list.split(/,\s*/).includes('127.0.0.1') ? list : `127.0.0.1,${list}`;
}

function rpcPath(old: Record<string, unknown>): string {
  const path = old['rpc-url'];
  return typeof path === 'string' && path.startsWith('/') ? path : '/transmission/';
}
