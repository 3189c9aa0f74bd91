import { spawnSync } from 'node:child_process';
import { UpdateError } from '../../lib/errors.ts';
import { findCommand } from '../../lib/system/run-command.ts';
import type { Scheduler } from './arguments.ts';

const searchPath =
  '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/opt/puppetlabs/bin';
/** Debian's packages, by the program that each is needed for. */
const packages = {
  serf: 'serf',
  'transmission-daemon': 'transmission-daemon',
  puppet: 'puppet-agent',
  cron: 'cron',
};

/** Debian's packages that are missing on this machine; cron only where it is to start the work. */
export async function missingPackages(scheduler: Scheduler): Promise<string[]> {
  const found = await Promise.all(
    Object.entries(packages).map(async ([program, name]) =>
      (program === 'cron' && scheduler !== 'cron') ||
      (await findCommand(program, searchPath)) !== undefined
        ? []
        : [name],
    ),
  );
  return found.flat();
}

/**
 * Installs packages by apt, whose output goes to standard error.
 *
 * @throws UpdateError `unavailable`
 */
export async function installPackages(names: readonly string[]): Promise<void> {
  const list = names.join(' ');
  const apt = await findCommand('apt-get', searchPath);
  if (apt === undefined)
    throw new UpdateError('unavailable', `${list}: not installed, and there is no apt-get`, {
      hint: 'install Serf, Transmission (its daemon) and Puppet 7 or newer by the means of this system, then run setup again',
    });
  const run = (...args: string[]): boolean =>
    spawnSync(apt, args, {
      stdio: ['ignore', process.stderr, 'inherit'],
      env: { PATH: searchPath, DEBIAN_FRONTEND: 'noninteractive', LC_ALL: 'C.UTF-8' },
    }).status === 0;
  // The lists of a bare machine are missing, or too old.
  if (run('install', '--yes', '--no-install-recommends', ...names)) return;
  if (run('update') && run('install', '--yes', '--no-install-recommends', ...names)) return;
  throw new UpdateError('unavailable', `could not install ${list}`, {
    hint: `apt-get has said why, above; then run setup again. Debian 12 and 13 have these packages: apt-get update; apt-get install ${list}`,
  });
}
