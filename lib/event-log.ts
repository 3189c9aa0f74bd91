import { appendFileSync, closeSync, fchmodSync, fstatSync, openSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { hasErrno } from './errors.ts';

/** One line of events.log: what woke us, and what came of it. */
export interface LoggedEvent {
  handler: string;
  decision: string;
  reason: string;
  channel?: string;
  version?: number;
}

/** The log of a directory's owner; each user writes a file of its own. */
export function eventLogFile(directory: string): string {
  return join(directory, 'events.log');
}

/**
 * Appends one JSON line with the time (ISO 8601, milliseconds) and the milliseconds since this
 * process started. A log that cannot be written must not lose an update, so that is no error.
 */
export function logEvent(directory: string, event: LoggedEvent): void {
  const { handler, channel, version, decision, reason } = event;
  const line = {
    time: new Date().toISOString(),
    handler,
    channel,
    version,
    decision,
    reason,
    ms: Math.round(performance.now()),
  };
  try {
    append(directory, `${JSON.stringify(line)}\n`);
  } catch (error) {
    // Full, read-only, or a directory of another user (the Transmission hook): go on without.
    if (!hasErrno(error, 'ENOSPC', 'EROFS', 'EACCES', 'EPERM', 'ENOENT', 'EIO')) throw error;
  }
}

function append(directory: string, text: string): void {
  const descriptor = openSync(eventLogFile(directory), 'a', 0o600);
  try {
    // Who may look into the directory may read its log, whatever the umask of a unit is.
    if (fstatSync(descriptor).size === 0)
      fchmodSync(descriptor, 0o600 | (statSync(directory).mode & 0o044));
    appendFileSync(descriptor, text);
  } finally {
    closeSync(descriptor);
  }
}
