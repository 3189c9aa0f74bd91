import { spawnSync } from 'node:child_process';
import { UpdateError } from '../../lib/errors.ts';
import type { Machine } from './rules.ts';

const env = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C' };
/** A pipe in place of the file would be waited for. */
const timeoutMs = 10_000;
const maxBytes = 2 ** 20;

/**
 * Reads a file of a daemon with the rights of its user alone: that user may have put a link to any file of
 * root's in its place.
 *
 * @param file path as this process sees it, in an image too
 * @returns undefined when it is missing
 * @throws UpdateError `configuration`
 */
export function readAs(user: string, file: string, machine: Machine): string | undefined {
  const script = 'test -e "$1" || exit 3; exec cat -- "$1"';
  const { status, stdout, stderr } = runAs(user, script, file, '', machine);
  if (status === 0) return stdout;
  if (status === 3) return undefined;
  throw new UpdateError('configuration', `${user} cannot read ${file}: ${stderr.trim()}`, {
    hint: `it is the file of ${user}: correct its owner and mode, then run setup again`,
  });
}

/**
 * Shell script that replaces the file $1 by its standard input of $2 bytes: through a link of Debian's, as
 * Transmission itself does, and by rename, so that there is always a whole file. It outlives a set-up that is
 * killed, and its input then ends too early, which is why the bytes are counted.
 */
export const replaceScript = `umask 077
  file=$(readlink -f -- "$1") && new=$file.p2p-update && cat > "$new" && sync "$new" &&
  if [ "$(wc -c < "$new")" -eq "$2" ]; then mv -f -- "$new" "$file"
  else rm -f -- "$new"; echo 'the text was cut off' >&2; exit 1; fi`;

/** Replaces such a file, durably and with mode 0600; throws UpdateError `configuration`. */
export function replaceAs(user: string, file: string, text: string, machine: Machine): void {
  const { status, stderr } = runAs(user, replaceScript, file, text, machine);
  if (status === 0) return;
  throw new UpdateError('configuration', `${user} cannot write ${file}: ${stderr.trim()}`, {
    hint: `it is the file of ${user}: correct the owner and mode of its directory, then run setup again`,
  });
}

function runAs(user: string, script: string, file: string, input: string, machine: Machine) {
  const account = machine.users.get(user);
  if (account === undefined)
    throw new UpdateError('configuration', `there is no user ${user}`, {
      hint: 'install Transmission first: apt-get install transmission-daemon',
    });
  const { uid, gid } = account;
  return spawnSync('/bin/sh', ['-c', script, 'sh', file, String(Buffer.byteLength(input))], {
    ...{ uid, gid, input, env, cwd: '/', encoding: 'utf8', timeout: timeoutMs },
    maxBuffer: maxBytes,
  });
}
