import { spawnSync } from 'node:child_process';
import { resolve } from 'node:path';
import { defaultConfigFile, loadConfig, type Config } from '../../lib/config.ts';
import { UpdateError, exitStatus, formatError } from '../../lib/errors.ts';
import { logEvent } from '../../lib/system/event-log.ts';
import {
  hasLostStateDir,
  isOurs,
  ownerOf,
  requireOwnership,
} from '../../lib/reconciler/apply/ownership.ts';
import { reconcile, type Side } from '../../lib/reconciler/reconcile.ts';
import { nameOf, parseUpdateName, type UpdateId } from '../../lib/announcement/update.ts';
import { commandLine } from './command-line.ts';

/** What a person asks for on the command line. */
interface Options {
  help: boolean;
  /** What was given up is to be tried again: all of it, or one update. */
  retry: 'nothing' | 'all' | UpdateId;
}

/**
 * What the commands `reconcile` and `apply` share: runs those of the given sides that belong to this
 * user. Root hands advance over to the user whose it is.
 *
 * @param options.retry whether the command has this option
 */
export async function runSides(
  name: string,
  help: string,
  wanted: readonly Side[],
  options: { retry: boolean },
): Promise<void> {
  try {
    const asked = parseCommandLine(name, options);
    if (asked.help) {
      process.stdout.write(help);
      return;
    }
    const config = loadConfig(process.env);
    if (hasLostStateDir(config))
      throw new UpdateError('configuration', `${config.stateDir} is gone`, {
        hint: 'scripts/setup.ts makes it again; what this node has applied is not forgotten',
      });
    const sides = wanted.filter((side) => isOurs(directoryOf(config, side)));
    const isRoot = process.geteuid?.() === 0;
    if (sides.length === 0 && !isRoot) throw notOurs(config, wanted);
    if (sides.includes('apply')) {
      const configFile = process.env['P2P_UPDATE_CONFIG'] ?? defaultConfigFile;
      requireOwnership(config, [configFile, process.execPath, process.argv[1] ?? '']);
    }
    if (asked.retry !== 'nothing') {
      if (!sides.includes('apply')) throw notOurs(config, ['apply']);
      await retry(name, config, asked.retry === 'all' ? undefined : asked.retry);
    }
    const status =
      isRoot && wanted.includes('advance') && !sides.includes('advance')
        ? advanceAsOwner(config)
        : 0;
    await reconcile(config, sides, (message) => {
      process.stderr.write(`${name}: warning: ${message}\n`);
    });
    process.exitCode = status;
  } catch (error) {
    process.stderr.write(formatError(name, error));
    process.exitCode = exitStatus(error);
  }
}

/** Writes down what is to be tried again, which the pass that follows does, and says so. */
async function retry(name: string, config: Config, wanted: UpdateId | undefined): Promise<void> {
  const { retryPoisoned } = await import('../../lib/reconciler/apply/retry.ts');
  const retried = await retryPoisoned(config, wanted, {
    nowSeconds: () => Math.floor(Date.now() / 1000),
    log: (event) => {
      logEvent(config.applyDir, { handler: 'apply', ...event });
    },
  });
  if (retried.length === 0) process.stdout.write(`${name}: nothing was given up\n`);
  for (const { id, isRetried, reason } of retried) {
    const what = isRetried ? 'is tried again' : `stays given up: ${reason}`;
    process.stdout.write(`${name}: ${nameOf(id)} ${what}\n`);
  }
}

function directoryOf({ stateDir, applyDir }: Config, side: Side): string {
  return side === 'apply' ? applyDir : stateDir;
}

/**
 * This same command, run by the owner of the state directory; returns its exit status. It gets
 * nothing of root's: no terminal, into which a lesser user could type commands (TIOCSTI), hence
 * setsid(1) and pipes, and no environment.
 */
function advanceAsOwner({ stateDir }: Config): number {
  const owner = ownerOf(stateDir);
  const identity = [`--reuid=${owner?.uid ?? 0}`, `--regid=${owner?.gid ?? 0}`, '--init-groups'];
  const command = [process.execPath, ...process.execArgv, resolve(process.argv[1] ?? '')];
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
  process.stdout.write(stdout);
  process.stderr.write(stderr);
  return status ?? exitStatus(undefined);
}

function notOurs(config: Config, wanted: readonly Side[]): UpdateError {
  const directories = wanted.map((side) => directoryOf(config, side)).join(' and ');
  return new UpdateError('configuration', `${directories}: of another user`, {
    hint: 'run it as their owner, or as root',
  });
}

function parseCommandLine(name: string, options: { retry: boolean }): Options {
  const { parse, usage } = commandLine(name);
  const flag = { type: 'boolean', default: false } as const;
  const { values, positionals } = parse({
    options: { help: { ...flag, short: 'h' }, retry: flag },
    allowPositionals: options.retry,
  });
  const [key, ...more] = positionals;
  if (values.retry && !options.retry) throw usage('--retry is of reconcile');
  if (!values.retry && key !== undefined) throw usage(`${key}: what is it for?`);
  if (more.length > 0) throw usage('one update at a time, or none for all');
  if (!values.retry) return { help: values.help, retry: 'nothing' };
  if (key === undefined) return { help: values.help, retry: 'all' };
  const id = parseUpdateName(key);
  if (id === undefined) throw usage(`${key} is no CHANNEL@VERSION`);
  return { help: values.help, retry: id };
}
