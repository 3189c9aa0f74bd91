/**
 * Code of a refusal or failure; a closed set that operators match on. Each has one exit status, a number
 * of sysexits.h, listed in the README.
 */
export type ErrorCode =
  | 'usage'
  | 'malformed'
  | 'unavailable'
  | 'internal'
  | 'try-later'
  | 'refused'
  | 'untrusted'
  | 'configuration';

const exitStatuses: Record<ErrorCode, number> = {
  usage: 64,
  malformed: 65,
  unavailable: 69,
  internal: 70,
  'try-later': 75,
  refused: 76,
  untrusted: 77,
  configuration: 78,
};

/** The error that reaches a person: the fault and its reason in `message`, the next step in `hint`. */
export class UpdateError extends Error {
  readonly code: ErrorCode;
  readonly hint: string;

  constructor(code: ErrorCode, message: string, options: { hint: string; cause?: unknown }) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'UpdateError';
    this.code = code;
    this.hint = options.hint;
  }
}

/** The exit status for a thrown value; an unknown error is a fault of this software, 70. */
export function exitStatus(error: unknown): number {
  return exitStatuses[error instanceof UpdateError ? error.code : 'internal'];
}

/** One line: the message of an error and, in brackets, of its cause. */
export function describeError(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const cause = error.cause === undefined ? '' : ` (${describeError(error.cause)})`;
  return `${error.message}${cause}`;
}

/** Formats an error for stderr: `program: error: …` and, where there is one, `program: hint: …`. */
export function formatError(program: string, error: unknown): string {
  const lines = [`${program}: error: ${describeError(error)}`];
  if (error instanceof UpdateError) lines.push(`${program}: hint: ${error.hint}`);
  return `${lines.join('\n')}\n`;
}

/** True for an error of node:fs or a child process with the given code, such as ENOENT. */
export function hasErrno(error: unknown, ...codes: string[]): boolean {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  return typeof code === 'string' && codes.includes(code);
}

/**
 * Wraps a failure to write the state, so that the sender of the event (or the next wake-up) tries
 * again: a full or read-only disk, 75. ENOENT is how Node reports EROFS and EIO of a recursive
 * mkdir: it then looks whether the directory is there (MKDirpSync in node_file.cc).
 */
export function stateError(cause: unknown, stateDir: string): unknown {
  if (!hasErrno(cause, 'ENOSPC', 'EROFS', 'EIO', 'EDQUOT', 'EACCES', 'EPERM', 'ENOTDIR', 'ENOENT'))
    return cause;
  const remedy = hasErrno(cause, 'ENOSPC', 'EDQUOT')
    ? 'free space'
    : hasErrno(cause, 'EACCES', 'EPERM', 'ENOTDIR')
      ? 'correct the owner and mode of the directory'
      : 'check the disk';
  return new UpdateError('try-later', `cannot write the state below ${stateDir}`, {
    hint: `${remedy}; nothing was changed`,
    cause,
  });
}
