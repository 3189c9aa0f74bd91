import { statSync } from 'node:fs';
import type { Config } from '../../lib/config.ts';
import { connectTransmission } from '../../lib/daemons/transmission/client.ts';
import { requiredSettings } from '../../lib/daemons/transmission/settings.ts';
import { describeError, hasErrno, UpdateError } from '../../lib/errors.ts';
import { type Accounts, groupsOf } from '../../lib/system/accounts.ts';
import type { DownloadDirectory, TransmissionReply } from './transmission-checks.ts';

const fields = [
  ...Object.keys(requiredSettings),
  ...['version', 'config-dir', 'download-dir', 'peer-port'],
  ...['script-torrent-done-enabled', 'script-torrent-done-filename'],
];

/**
 * Asks the daemon for its settings, and for what it has whole. A wrong password is tried once.
 *
 * @param maxSeconds limit of each call
 */
export async function askTransmission(
  { transmission }: Pick<Config, 'transmission'>,
  maxSeconds: number,
): Promise<{ reply: TransmissionReply; complete: ReadonlySet<string> }> {
  const none: ReadonlySet<string> = new Set();
  const timeoutSeconds = Math.min(transmission.timeoutSeconds, maxSeconds);
  let client: ReturnType<typeof connectTransmission>;
  try {
    client = connectTransmission({ ...transmission, timeoutSeconds });
  } catch (error) {
    return { reply: { kind: 'login file', why: reason(error) }, complete: none };
  }
  try {
    const session = await client.session(fields);
    const torrents = await client.list();
    const complete = torrents.filter(
      ({ percentDone, status }) => percentDone === 1 && status === 'seeding',
    );
    return {
      reply: { kind: 'up', session },
      complete: new Set(complete.map(({ infoHash }) => infoHash)),
    };
  } catch (error) {
    return { reply: { kind: kindOf(error), why: reason(error) }, complete: none };
  }
}

function kindOf(error: unknown): 'password' | 'locked' | 'down' {
  if (!(error instanceof UpdateError)) throw error;
  if (error.code === 'configuration') return 'password';
  return error.code === 'try-later' ? 'locked' : 'down';
}

function reason(error: unknown): string {
  if (error instanceof UpdateError) return describeError(error);
  throw error;
}

/** Looks at the download directory, and whether the daemon's user may write there by its mode. */
export function readDownloadDirectory(
  wanted: string,
  uid: number | undefined,
  accounts: Accounts,
): Pick<DownloadDirectory, 'wanted' | 'found'> {
  try {
    const stats = statSync(wanted);
    if (uid === undefined) return { wanted, found: 'closed' };
    const user = [...accounts.users].find(([, each]) => each.uid === uid)?.[0] ?? '';
    const bits =
      stats.uid === uid ? 0o300 : groupsOf(accounts, user).includes(stats.gid) ? 0o030 : 0o003;
    const isWritable = uid === 0 || (stats.mode & bits) === bits;
    return { wanted, found: { isWritable } };
  } catch (error) {
    return { wanted, found: hasErrno(error, 'ENOENT') ? 'missing' : 'closed' };
  }
}
