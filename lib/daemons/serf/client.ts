import { execFile, type ExecFileException } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { hasErrno, UpdateError } from '../../errors.ts';
import { isRecord } from '../../system/json.ts';
import { printable } from '../../system/printable.ts';
import { type Member, parseMembers, strangeReply } from './members.ts';

export interface SerfClient {
  /** Sends a user event to the whole fleet, uncoalesced; `payload` is text without NUL. */
  sendEvent(name: string, payload: string): Promise<void>;
  /**
   * Sends a query to every alive member, or to the named ones, and waits for the whole of `seconds`, as
   * Serf does.
   *
   * @param nodes names of members
   * @returns the response of each member's handler, by the member's name
   */
  query(
    name: string,
    payload: string,
    seconds: number,
    nodes?: readonly string[],
  ): Promise<Map<string, string>>;
  /** The members that the agent knows, in any state; at most 10,000. */
  members(): Promise<Member[]>;
  /** Removes a member that is not alive from every agent's list; it comes back when it joins again. */
  prune(name: string): Promise<void>;
  /** The name of the local node. */
  selfName(): Promise<string>;
  /** The local agent by its own word. */
  info(): Promise<AgentInfo>;
}

/** The local agent by its own word. */
export interface AgentInfo {
  /** Name of the local node. */
  name: string;
  /** Whether gossip is encrypted; null when the agent does not say. */
  isEncrypted: boolean | null;
}

export interface SerfSettings {
  /** The `serf` program: a name on the standard path, or an absolute path. */
  command: string;
  /** host:port of the local agent's RPC. */
  rpcAddress: string;
  /** A file that holds the agent's `rpc_auth`, null when the agent has none. */
  rpcAuthFile: string | null;
  /** For each call. */
  timeoutSeconds: number;
}

const maxOutputBytes = 16 << 20;

// UserEventSizeLimit in serf/serf.go: no configuration allows more.
const maxEventBytes = 9216;

// The child gets an environment of its own: no variable of ours leaks into it.
const searchPath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/**
 * A client of the local Serf agent, by way of Serf's own command.
 *
 * Every call throws UpdateError: `unavailable` when the agent or the program is not there, or does not
 * answer in time; `configuration` when the RPC key is wrong, missing or unreadable; `malformed` from
 * sendEvent when the payload is one that Serf will not send.
 */
export function connectSerf(settings: SerfSettings): SerfClient {
  return {
    async sendEvent(name, payload) {
      if (Buffer.byteLength(payload) > maxEventBytes)
        throw tooLarge(`limit of ${maxEventBytes} bytes`);
      if (payload.includes('\0')) {
        throw new UpdateError('malformed', 'the payload contains a NUL byte', {
          hint: 'Serf takes the payload as a command argument: send base64 instead of raw bytes',
        });
      }
      // Coalesced events of one name displace each other. After `--` a payload that begins with a dash
      // is no flag.
      const args = ['event', '-coalesce=false', '--', name, payload];
      const output = await runSerf(settings, args);
      // Serf's command acts on -v and --version wherever they stand, sends nothing, and exits 0.
      if (!output.includes('dispatched')) {
        throw new UpdateError('malformed', 'Serf took the payload for one of its own flags', {
          hint: 'a payload of -v or --version cannot be sent as an event',
        });
      }
    },

    async query(name, payload, seconds, nodes = []) {
      const args = [
        'query',
        '-format',
        'json',
        '-no-ack',
        `-timeout=${seconds}s`,
        ...nodes.map((node) => `-node=${node}`),
        '--',
        name,
        payload,
      ];
      const patient = { ...settings, timeoutSeconds: settings.timeoutSeconds + seconds };
      const reply = parseJson(await runSerf(patient, args));
      const responses: unknown = isRecord(reply) ? reply['Responses'] : undefined;
      // Go writes an empty map as null.
      if (responses !== null && !isRecord(responses)) throw strangeReply();
      const entries = Object.entries(responses ?? {});
      return new Map(
        entries.filter((entry): entry is [string, string] => typeof entry[1] === 'string'),
      );
    },

    async members() {
      const output = await runSerf(settings, ['members', '-format', 'json']);
      return parseMembers(parseJson(output));
    },

    async prune(name) {
      await runSerf(settings, ['force-leave', '-prune', '--', name]);
    },

    async selfName() {
      return (await readInfo(settings)).name;
    },

    info: () => readInfo(settings),
  };
}

async function readInfo(settings: SerfSettings): Promise<AgentInfo> {
  const reply = parseJson(await runSerf(settings, ['info', '-format', 'json']));
  const part = (key: string): Record<string, unknown> => {
    const value = isRecord(reply) ? reply[key] : undefined;
    return isRecord(value) ? value : {};
  };
  const { name } = part('agent');
  if (typeof name !== 'string' || name === '') throw strangeReply();
  const { encrypted } = part('serf');
  return { name, isEncrypted: typeof encrypted === 'string' ? encrypted === 'true' : null };
}

/** Runs one `serf` command; returns its standard output. */
async function runSerf(settings: SerfSettings, args: readonly string[]): Promise<string> {
  const env: Record<string, string> = { PATH: searchPath, SERF_RPC_ADDR: settings.rpcAddress };
  if (settings.rpcAuthFile !== null) {
    // By environment, never by flag: every user can read the arguments with ps(1).
    env['SERF_RPC_AUTH'] = await readRpcKey(settings.rpcAuthFile);
  }
  return new Promise((resolve, reject) => {
    execFile(
      settings.command,
      args,
      {
        env,
        timeout: settings.timeoutSeconds * 1000,
        killSignal: 'SIGKILL',
        maxBuffer: maxOutputBytes,
      },
      (error, stdout) => {
        if (error === null) resolve(stdout);
        else setTimeout(reject, reportDelayMs(error), explainFailure(settings, error, stdout));
      },
    );
  });
}

/**
 * A signal that is not ours (`killed` says that), such as that of Ctrl-C, is for this process too, and the
 * news of the command's end may overtake it: a failure that only the signal made must not be reported.
 */
function reportDelayMs({ killed, signal }: ExecFileException): number {
  return killed !== true && typeof signal === 'string' ? 1000 : 0;
}

/** Serf prints its errors on stdout, and exits 1 for every one of them. */
function explainFailure(
  settings: SerfSettings,
  failure: ExecFileException,
  stdout: string,
): UpdateError {
  if (hasErrno(failure, 'ENOENT', 'EACCES')) {
    return new UpdateError('unavailable', `the program ${settings.command} cannot be run`, {
      hint: 'install Serf, or set serf.command to its absolute path (docs/serf.md)',
      cause: failure,
    });
  }
  if (hasErrno(failure, 'ERR_CHILD_PROCESS_STDIO_MAXBUFFER')) return strangeReply();
  if (failure.killed === true) {
    return unavailable(settings, `does not answer within ${settings.timeoutSeconds} s`);
  }
  const message = printable(stdout.trim().replace(/\s+/g, ' '));
  const limit = /exceeds.*?(limit of \d+ bytes)/.exec(message)?.[1];
  if (limit !== undefined) return tooLarge(limit);
  if (/Authentication required|Invalid authentication token/.test(message)) {
    return new UpdateError('configuration', `the Serf agent refuses our RPC key: ${message}`, {
      hint: 'serf.rpcAuthFile must name a file that holds the rpc_auth of the agent',
    });
  }
  if (message !== '') return unavailable(settings, message);
  // Not the message of Node's error: that repeats all arguments, an announcement among them.
  const end = failure.signal ?? `exit status ${failure.code ?? 'unknown'}`;
  return unavailable(settings, `the serf command printed nothing, and ended with ${end}`);
}

async function readRpcKey(file: string): Promise<string> {
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (cause) {
    throw new UpdateError('configuration', `the Serf RPC key ${file} cannot be read`, {
      hint: 'serf.rpcAuthFile must be readable by this user; see docs/serf.md',
      cause,
    });
  }
  const key = text.replace(/\r?\n$/, '');
  if (key === '' || /[\0\r\n]/.test(key)) {
    throw new UpdateError('configuration', `the Serf RPC key ${file} is not one line of text`, {
      hint: 'write the rpc_auth of the agent into it, and nothing else',
    });
  }
  return key;
}

function tooLarge(limit: string): UpdateError {
  return new UpdateError('malformed', `the payload is over Serf's ${limit} for an event`, {
    hint: 'shorten the names, or raise user_event_size_limit on this agent (docs/serf.md)',
  });
}

function unavailable(settings: SerfSettings, why: string): UpdateError {
  return new UpdateError('unavailable', `the Serf agent at ${settings.rpcAddress}: ${why}`, {
    hint: 'is it running (systemctl status serf), and is serf.rpcAddress its rpc_addr?',
  });
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw strangeReply();
  }
}
