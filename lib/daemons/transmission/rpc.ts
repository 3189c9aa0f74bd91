import { closeSync, fstatSync, openSync, readFileSync } from 'node:fs';
import { request as httpRequest } from 'node:http';
import { Transmission } from '@ctrl/transmission';
import { UpdateError } from '../../errors.ts';
import { printable } from '../../system/printable.ts';

export interface Credentials {
  username: string;
  password: string;
}

type LibraryResponse<T> = ReturnType<typeof Transmission.prototype.request<T>>;

/** Limit for reading; a daemon with ten thousand torrents answers with some 10 MB. */
const maxReplyBytes = 32 * 1024 * 1024;

const downHint = 'start transmission-daemon; is transmission.url the address of its RPC?';

/**
 * The library's client, with its `request` replaced. The library's own loops for as long as it is
 * answered 409, never looks at `result`, and turns every connection error into a TypeError; fetch
 * besides costs 90 ms to load on Node 20. The methods built on `request` are used as they are.
 */
export class TransmissionRpc extends Transmission {
  readonly #url: URL;
  readonly #credentialsFile: string | null;
  readonly #authorization: string | undefined;
  readonly #timeoutSeconds: number;
  #sessionId: string | undefined;

  /** @throws UpdateError `configuration` for an unusable URL or credentials file */
  constructor(options: { url: string; credentialsFile: string | null; timeoutSeconds: number }) {
    super();
    this.#url = parseRpcUrl(options.url);
    this.#credentialsFile = options.credentialsFile;
    this.#timeoutSeconds = options.timeoutSeconds;
    if (options.credentialsFile !== null) {
      const { username, password } = readCredentials(options.credentialsFile);
      const pair = Buffer.from(`${username}:${password}`).toString('base64');
      this.#authorization = `Basic ${pair}`;
    }
  }

  /**
   * Makes one RPC call; resolves, on success only, to the response that the library's methods expect.
   *
   * @throws UpdateError `unavailable`, `configuration` (401, or a refusal) or `try-later` (403)
   */
  override request<T>(method: string, args: unknown = {}): LibraryResponse<T> {
    // The library's methods read `_data` of this response and nothing else.
    return this.#call(method, args).then((reply) => ({ _data: reply })) as LibraryResponse<T>;
  }

  async #call(method: string, args: unknown): Promise<{ result: 'success'; arguments: unknown }> {
    const body = JSON.stringify({ method, arguments: args });
    let answer = await this.#post(body);
    // The session id is Transmission's guard against cross-site requests. It is handed out with a
    // 409 and changes every hour, so one repetition is normal and a second 409 in a row is not.
    if (answer.status === 409 && answer.sessionId !== undefined) {
      this.#sessionId = answer.sessionId;
      answer = await this.#post(body);
    }
    if (answer.status !== 200) throw this.#statusError(answer.status);
    return parseReply(answer.text, method);
  }

  #post(body: string): Promise<{ status: number; sessionId: string | undefined; text: string }> {
    const headers: Record<string, string | number> = {
      'content-type': 'application/json',
      'content-length': Buffer.byteLength(body),
    };
    if (this.#authorization !== undefined) headers['authorization'] = this.#authorization;
    if (this.#sessionId !== undefined) headers['x-transmission-session-id'] = this.#sessionId;

    return new Promise((resolve, reject) => {
      const fail = (cause: unknown) => {
        const why = signal.aborted
          ? `no answer within ${this.#timeoutSeconds} s`
          : 'cannot reach it';
        reject(
          new UpdateError('unavailable', `Transmission at ${this.#url.href}: ${why}`, {
            hint: downHint,
            cause,
          }),
        );
      };
      const signal = AbortSignal.timeout(this.#timeoutSeconds * 1000);
      // A connection per call: Transmission closes idle ones, perhaps just as a call begins.
      const options = { method: 'POST', agent: false, headers, signal } as const;
      const request = httpRequest(this.#url, options, (response) => {
        const chunks: Buffer[] = [];
        let size = 0;
        response.on('data', (chunk: Buffer) => {
          size += chunk.length;
          if (size > maxReplyBytes)
            response.destroy(new Error(`reply over ${maxReplyBytes} bytes`));
          else chunks.push(chunk);
        });
        response.on('error', fail);
        response.on('end', () => {
          const id = response.headers['x-transmission-session-id'];
          resolve({
            status: response.statusCode ?? 0,
            sessionId: typeof id === 'string' ? id : undefined,
            text: Buffer.concat(chunks).toString('utf8'),
          });
        });
      });
      request.on('error', fail);
      request.end(body);
    });
  }

  #statusError(status: number): UpdateError {
    const at = `Transmission at ${this.#url.href}`;
    switch (status) {
      case 401:
        return new UpdateError('configuration', `${at} refused the user name or password (401)`, {
          hint:
            this.#credentialsFile === null
              ? 'set the configuration key transmission.credentialsFile'
              : `put rpc-username and rpc-password of Transmission's settings.json into ${this.#credentialsFile}`,
        });
      case 403:
        // rpc-server.c: 100 failed logins in a row, or an address that is not on the white list.
        return new UpdateError('try-later', `${at} is closed to us (403)`, {
          hint: 'restart transmission-daemon: 100 wrong passwords in a row lock it until then; if that does not help, put 127.0.0.1 into its rpc-whitelist',
        });
      case 409:
        return new UpdateError('unavailable', `${at} refuses the session id it gave (409)`, {
          hint: downHint,
        });
      default:
        return new UpdateError('unavailable', `${at} answered with HTTP status ${status}`, {
          hint: downHint,
        });
    }
  }
}

function parseReply(text: string, method: string): { result: 'success'; arguments: unknown } {
  let reply: unknown;
  try {
    reply = JSON.parse(text);
  } catch (cause) {
    throw new UpdateError('unavailable', `the reply to ${method} is not JSON`, {
      hint: 'something else than Transmission may be listening at transmission.url',
      cause,
    });
  }
  if (typeof reply !== 'object' || reply === null || !('result' in reply)) {
    throw new UpdateError('unavailable', `the reply to ${method} is not one of Transmission's`, {
      hint: 'something else than Transmission may be listening at transmission.url',
    });
  }
  const { result } = reply;
  if (result !== 'success') {
    const why = typeof result === 'string' ? printable(result) : typeof result;
    throw new UpdateError('configuration', `Transmission refused ${method}: ${why}`, {
      hint: "look into transmission-daemon's log",
    });
  }
  return { result, arguments: 'arguments' in reply ? reply.arguments : undefined };
}

/** Parses an RPC URL of this machine: the daemon shares files with us and announces to 127.0.0.1. */
function parseRpcUrl(text: string): URL {
  const hint = 'example: http://127.0.0.1:9091/transmission/rpc';
  const refuse = (why: string) =>
    new UpdateError('configuration', `transmission.url ${why}`, { hint });
  if (!URL.canParse(text)) throw refuse('is not a URL');
  const url = new URL(text);
  if (url.protocol !== 'http:') throw refuse('does not begin with http:');
  if (url.username !== '' || url.password !== '') {
    throw refuse('holds a password; that belongs into transmission.credentialsFile');
  }
  if (!/^(localhost|\[::1\]|127\.\d+\.\d+\.\d+)$/.test(url.hostname)) {
    throw refuse('names another machine than this one');
  }
  return url;
}

/**
 * Reads `{"username": …, "password": …}`.
 *
 * @throws UpdateError `configuration` when the file is missing, malformed, or open to every user
 */
export function readCredentials(file: string): Credentials {
  const refuse = (why: string, hint: string, cause?: unknown) =>
    new UpdateError('configuration', `Transmission's credentials file ${file} ${why}`, {
      hint,
      cause,
    });
  let text: string;
  try {
    const descriptor = openSync(file, 'r');
    try {
      if ((fstatSync(descriptor).mode & 0o007) !== 0) {
        throw refuse('is open to every user of this machine', `run: chmod o= ${file}`);
      }
      text = readFileSync(descriptor, 'utf8');
    } finally {
      closeSync(descriptor);
    }
  } catch (error) {
    if (error instanceof UpdateError) throw error;
    throw refuse(
      'cannot be read',
      'it must exist and be readable by this user; see docs/transmission.md',
      error,
    );
  }
  const hint = 'it must hold {"username": "…", "password": "…"}';
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    // Without the parser's own message, which quotes the text, and so the password.
    throw refuse('is not JSON', hint);
  }
  if (
    typeof value !== 'object' ||
    value === null ||
    !('username' in value) ||
    typeof value.username !== 'string' ||
    value.username.includes(':') ||
    !('password' in value) ||
    typeof value.password !== 'string'
  ) {
    throw refuse('lacks a user name (without a colon) or a password', hint);
  }
  return { username: value.username, password: value.password };
}
