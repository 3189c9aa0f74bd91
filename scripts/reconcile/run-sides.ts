import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { defaultConfigFile, loadConfig, type Config } from '../../lib/config.ts';
import { buildTime, programFile } from '../../lib/build.ts';
import { commandHint } from '../../lib/command-hint.ts';
import { UpdateError, exitStatus } from '../../lib/errors.ts';
import { logEvent } from '../../lib/system/event-log.ts';
import {
  hasLostStateDir,
  isOurs,
  ownerOf,
  requireOwnership,
} from '../../lib/reconciler/apply/ownership.ts';
import { reconcile, type Side } from '../../lib/reconciler/reconcile.ts';
import { nameOf, type UpdateRef } from '../../lib/announcement/update.ts';
import { print } from '../cli/output.ts';
import { nowSeconds } from '../cli/time.ts';

/** This program: the bundle or, from a checkout by tsx, its source. */
const program = buildTime === 0 ? join(import.meta.dirname, '..', 'p2p-update.ts') : programFile();

/** Option of a run that another process at the same work is enough for. */
export const noWait = '--no-wait';
/** Time to wait for another process: passes are short, but for a long run of Puppet. */
const waitMs = 30_000;

/**
 * Runs those of the given sides that belong to this user, for the commands `reconcile`, `retry` and
 * `apply`. Root runs advance as the user that owns it. Sets the exit status.
 *
 * @param waits whether to wait for another process at the same work, and to fail where that takes long
 * @param retried the failed updates that are to be tried again first: all, those of a channel, or one
 * @throws UpdateError `configuration` when no side belongs to this user, or when others can change
 *   files that root runs
 */
export async function runSides(
  name: string,
  wanted: readonly Side[],
  waits: boolean,
  retried?: UpdateRef | 'all',
): Promise<void> {
  const config = loadConfig(process.env);
  if (hasLostStateDir(config))
    throw new UpdateError('configuration', `${config.stateDir} is gone`, {
      hint: `setup makes it again, and the record of applied updates is kept: ${commandHint('setup')}`,
    });
  const sides = wanted.filter((side) => isOurs(directoryOf(config, side)));
  const isRoot = process.geteuid?.() === 0;
  if (sides.length === 0 && !isRoot) throw notOurs(config, wanted);
  if (sides.includes('apply')) {
    const configFile = process.env['P2P_UPDATE_CONFIG'] ?? defaultConfigFile;
    // The path that was started, which may be a link, the program, and this bundle.
    const programs = [process.argv[1] ?? '', program, import.meta.filename];
    requireOwnership(config, [configFile, process.execPath, ...programs]);
  }
  if (retried !== undefined) {
    if (!sides.includes('apply')) throw notOurs(config, ['apply']);
    await retry(name, config, retried === 'all' ? undefined : retried);
  }
  const status =
    isRoot && wanted.includes('advance') && !sides.includes('advance')
      ? advanceAsOwner(config, waits)
      : 0;
  const warn = (message: string): void => {
    process.stderr.write(`${name}: warning: ${message}\n`);
  };
  // systemd's journal gets a line for each thing done; cron would mail it.
  const isJournal = process.env['JOURNAL_STREAM'] !== undefined;
  await reconcile(config, sides, waits ? waitMs : null, warn, (line) => {
    if (isJournal) print(`${line}\n`);
  });
  process.exitCode = status;
}

/** Records which updates the pass that follows tries again, and prints them. */
async function retry(name: string, config: Config, wanted: UpdateRef | undefined): Promise<void> {
  const { retryFailed } = await import('../../lib/reconciler/apply/retry.ts');
  const retried = await retryFailed(config, wanted, {
    nowSeconds,
    log: (event) => {
      logEvent(config.applyDir, { handler: 'apply', ...event });
    },
  });
  if (retried.length === 0)
    print(`${name}: there is nothing to try again: no update has failed on this node\n`);
  for (const { id, isRetried, reason } of retried) {
    const outcome = isRetried ? 'is tried again' : `is not tried again: ${reason}`;
    print(`${name}: ${nameOf(id)} ${outcome}\n`);
  }
}

function directoryOf({ stateDir, applyDir }: Config, side: Side): string {
  return side === 'apply' ? applyDir : stateDir;
}

/**
 * Runs the command `reconcile` of this same program as the owner of the state directory, and returns its
 * exit status. It gets nothing of root's: no terminal, into which a lesser user could type commands
 * (TIOCSTI), hence setsid(1) and pipes, and no environment.
 */
function advanceAsOwner({ stateDir }: Config, waits: boolean): number {
  const owner = ownerOf(stateDir);
  const identity = [`--reuid=${owner?.uid ?? 0}`, `--regid=${owner?.gid ?? 0}`, '--init-groups'];
  const command = [
    process.execPath,
    ...process.execArgv,
    program,
    'reconcile',
    ...(waits ? [] : [noWait]),
  ];
  const { PATH, P2P_UPDATE_CONFIG } = process.env;
  const { status, stdout, stderr, error } = spawnSync(
    'setsid',
    ['--wait', 'setpriv', ...identity, '--no-new-privs', '--', ...command],
    {
      stdio: ['ignore', 'pipe', 'pipe'],
      cwd: '/',
      env: { ...(PATH && { PATH }), ...(P2P_UPDATE_CONFIG && { P2P_UPDATE_CONFIG }) },
    },
  );
  if (error !== undefined)
    throw new UpdateError('unavailable', 'cannot run advance as its own user with setpriv(1)', {
      hint: 'install util-linux',
      cause: error,
    });
  if (stdout.length > 0) print(stdout);
  process.stderr.write(stderr);
  return status ?? exitStatus(undefined);
}

function notOurs(config: Config, wanted: readonly Side[]): UpdateError {
  const directories = wanted.map((side) => directoryOf(config, side)).join(' and ');
  return new UpdateError('configuration', `${directories}: of another user`, {
    hint: 'run it as their owner, or as root',
  });
}
