import { spawnSync } from 'node:child_process';
import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { defaultConfigFile, loadConfig, type Config } from '../lib/config.ts';
import { UpdateError, exitStatus, formatError } from '../lib/errors.ts';
import { isOurs, ownerOf, requireOwnership } from '../lib/ownership.ts';
import { reconcile, type Side } from '../lib/reconcile.ts';

/**
 * What the commands `reconcile` and `apply` share: runs those of the given sides that belong to this
 * user. Root hands advance over to the user whose it is.
 */
export async function runSides(name: string, help: string, wanted: readonly Side[]): Promise<void> {
  try {
    if (asksForHelp(name)) {
      process.stdout.write(help);
      return;
    }
    const config = loadConfig(process.env);
    const sides = wanted.filter((side) => isOurs(directoryOf(config, side)));
    const isRoot = process.geteuid?.() === 0;
    if (sides.length === 0 && !isRoot) throw notOurs(config, wanted);
    if (sides.includes('apply')) {
      const configFile = process.env['P2P_UPDATE_CONFIG'] ?? defaultConfigFile;
      requireOwnership(config, [configFile, process.execPath, process.argv[1] ?? '']);
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

function asksForHelp(name: string): boolean {
  try {
    return parseArgs({ options: { help: { type: 'boolean', short: 'h' } } }).values.help === true;
  } catch (cause) {
    throw new UpdateError('usage', cause instanceof Error ? cause.message : String(cause), {
      hint: `${name} --help shows the usage`,
    });
  }
}
