import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir, userInfo } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { shellCommand } from '../../command-hint.ts';
import { UpdateError } from '../../errors.ts';
import { printable } from '../../system/printable.ts';
import { endProcessGroup, type ProcessIdentity } from '../../system/process-group.ts';
import { findCommand, runCommand, type RunOutcome } from '../../system/run-command.ts';
import { noopChanges, readSummary, type RunSummary } from './run-summary.ts';

export interface PuppetSettings {
  /** A name on {@link commandPath}, or an absolute path. */
  command: string;
  timeoutSeconds: number;
  confDir: string;
  varDir: string;
  /** The directory of the module path that holds a symlink for each installed module. */
  moduleDir: string;
  /** Further module directories, after moduleDir. */
  modulePath: readonly string[];
}

/** The result of applying one update. */
export interface ApplyResult {
  ok: boolean;
  /** For people: 'applied', 'failed resources: 2', 'timeout', 'did not run: …' */
  reason: string;
  /** Of Puppet; null when it did not end by itself, or for a plain file. */
  exitCode: number | null;
  /** Resources, from the run's own summary; null where there is none. */
  changed: number | null;
  failed: number | null;
  /** Of a noop run: the properties that would change, without their values, which may be secret. */
  wouldChange?: string[];
}

/** The files of one run of Puppet. */
export interface RunContext {
  /** Private to this run: its summary and temporary files. */
  workDir: string;
  logFile: string;
  onStart?: ((identity: ProcessIdentity) => void | Promise<void>) | undefined;
}

/** PATH for this software and for the manifests, independent of the environment. */
export const commandPath =
  '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/opt/puppetlabs/bin';

const validateTimeoutMs = 60_000;

/**
 * Settings that make a run depend on the update and the node's directories alone. Puppet derives
 * codedir, logdir, rundir and ssldir from its build, not from confdir and vardir, so each is given.
 */
function settingsFor({ confDir, varDir }: PuppetSettings, workDir: string): string[] {
  return [
    `--confdir=${confDir}`,
    `--codedir=${join(confDir, 'code')}`,
    `--vardir=${varDir}`,
    `--logdir=${join(varDir, 'log')}`,
    `--rundir=${join(varDir, 'run')}`,
    `--ssldir=${join(varDir, 'ssl')}`,
    `--publicdir=${join(workDir, 'public')}`,
    '--color=false',
  ];
}

/**
 * Runs `puppet SUBCOMMAND…` with the node's settings.
 *
 * @throws UpdateError `try-later` when Puppet is missing or was ended from outside, neither of which is a
 *   fault of the update
 */
export async function runPuppet(
  settings: PuppetSettings,
  [subcommand, args]: [subcommand: readonly string[], args: readonly string[]],
  { workDir, logFile, onStart }: RunContext,
  facts: Readonly<Record<string, string>> = {},
): Promise<RunOutcome> {
  const command = await findPuppet(settings, 'try-later');
  const outcome = await runCommand({
    command,
    args: [...subcommand, ...settingsFor(settings, workDir), ...args],
    cwd: '/',
    env: { ...environment(), ...facts },
    logFile,
    timeoutMs: settings.timeoutSeconds * 1000,
    onStart,
  });
  // The shell's codes for a program that it cannot execute (sh(1)), such as one whose interpreter is gone.
  if (outcome.exitCode === 126 || outcome.exitCode === 127) throw missing(command, 'try-later');
  if (isInterrupted(outcome)) {
    // Puppet leaves its children behind then.
    await endProcessGroup(outcome.identity);
    throw new UpdateError(
      'try-later',
      `Puppet was ended from outside (${outcome.signal ?? 'a signal'})`,
      {
        hint: 'the node tries the update again by itself; nothing needs to be done',
      },
    );
  }
  return outcome;
}

/**
 * True for a run that was ended from outside, as at a shutdown, or by the kernel when memory is short.
 * Puppet reports a signal that it can catch as its last error, and exits with 1.
 */
function isInterrupted({ timedOut, signal, exitCode, output }: RunOutcome): boolean {
  if (timedOut) return false;
  if (signal !== null && /^SIG(TERM|INT|HUP|KILL)$/.test(signal)) return true;
  return exitCode === 1 && /^Error: (Could not run: )?SIG(TERM|INT|HUP)$/m.test(output);
}

function environment(): Record<string, string> {
  return { PATH: commandPath, LANG: 'C.UTF-8', HOME: userInfo().homedir };
}

async function findPuppet(
  { command }: PuppetSettings,
  code: 'try-later' | 'unavailable',
): Promise<string> {
  const path = await findCommand(command, commandPath);
  if (path === undefined) throw missing(command, code);
  return path;
}

function missing(command: string, code: 'try-later' | 'unavailable'): UpdateError {
  return new UpdateError(code, `Puppet cannot be run: there is no ${command}`, {
    hint: 'install it (Debian: apt-get install puppet-agent) or set puppet.command',
  });
}

/**
 * Applies a manifest, or all in a directory, and reads how many resources changed and failed.
 *
 * @param modules arguments that set the module path
 * @throws UpdateError as {@link runPuppet} does
 */
export async function applyManifest(
  settings: PuppetSettings,
  manifest: string,
  modules: readonly string[],
  run: RunContext & { channel: string; version: number; noop: boolean },
): Promise<ApplyResult> {
  // A file of this run alone: the summary of an earlier one must not count.
  const summaryFile = join(run.workDir, 'summary.yaml');
  const outcome = await runPuppet(
    settings,
    [
      ['apply'],
      [
        ...modules,
        '--detailed-exitcodes',
        // Against settings in puppet.conf: the announcement decides about noop, and no report leaves
        // the node.
        run.noop ? '--noop' : '--no-noop',
        '--no-splay',
        '--reports=none',
        `--lastrunfile=${summaryFile}`,
        manifest,
      ],
    ],
    run,
    {
      FACTER_p2p_update_channel: run.channel,
      FACTER_p2p_update_version: String(run.version),
    },
  );
  return judgeApply(outcome, await readSummary(summaryFile), run.noop);
}

/** Judges a run by the codes of `puppet apply --detailed-exitcodes`: 0 and 2 are success, 4 and 6 are not. */
export function judgeApply(
  outcome: RunOutcome,
  summary: RunSummary | undefined,
  noop: boolean,
): ApplyResult {
  const { exitCode } = outcome;
  const changed = summary?.changed ?? null;
  const failed = summary?.failed ?? null;
  if (outcome.timedOut || exitCode === null) return didNotEnd(outcome);
  if (exitCode === 0 || exitCode === 2) {
    if (!noop) return { ok: true, reason: 'applied', exitCode, changed, failed };
    const reason = `noop: resources that would change: ${summary?.outOfSync ?? '?'}`;
    return {
      ok: true,
      reason,
      exitCode,
      changed,
      failed,
      wouldChange: noopChanges(outcome.output),
    };
  }
  if (exitCode === 4 || exitCode === 6)
    return { ok: false, reason: `failed resources: ${failed ?? '?'}`, exitCode, changed, failed };
  return didNotRun(outcome);
}

function didNotEnd({ timedOut, signal }: RunOutcome): ApplyResult {
  const reason = timedOut ? 'timeout' : `Puppet was ended by ${signal ?? 'a signal'}`;
  return { ok: false, reason, exitCode: null, changed: null, failed: null };
}

/** The result of a run that applied nothing, with Puppet's first error. */
export function didNotRun(outcome: RunOutcome): ApplyResult {
  if (outcome.timedOut || outcome.exitCode === null) return didNotEnd(outcome);
  const error = firstError(outcome.output);
  const reason = error === undefined ? 'did not run' : `did not run: ${error}`;
  return { ok: false, reason, exitCode: outcome.exitCode, changed: null, failed: null };
}

/** Puppet's first error line; Facter's errors, as in a sandbox, are not about the update. */
function firstError(output: string): string | undefined {
  const error = /^Error: (?!Facter: )(.+)$/m.exec(output)?.[1];
  return error === undefined ? undefined : printable(error);
}

/**
 * Checks a manifest's syntax with `puppet parser validate`, as any user and without reading or writing
 * Puppet's own directories.
 *
 * @throws UpdateError `malformed` with Puppet's message, which names the line; `unavailable` when Puppet
 *   cannot be run
 */
export async function checkManifest(path: string, settings: PuppetSettings): Promise<void> {
  const command = await findPuppet(settings, 'unavailable');
  const workDir = await mkdtemp(join(tmpdir(), 'p2p-update-'));
  try {
    const confDir = join(workDir, 'conf');
    const varDir = join(workDir, 'var');
    await mkdir(confDir);
    const own = settingsFor({ ...settings, confDir, varDir }, workDir);
    const outcome = await runCommand({
      command,
      args: ['parser', 'validate', ...own, resolve(path)],
      cwd: '/',
      env: environment(),
      logFile: null,
      timeoutMs: validateTimeoutMs,
    });
    if (outcome.exitCode === 0) return;
    const error = firstError(outcome.output);
    if (outcome.exitCode === 1 && error !== undefined) {
      const why = error.replace(/^Could not parse for environment \w+: /, '');
      throw new UpdateError('malformed', `"${printable(basename(path))}" does not parse: ${why}`, {
        hint: `correct the manifest; check it with: ${shellCommand('puppet', 'parser', 'validate', printable(resolve(path)))}`,
      });
    }
    const how = outcome.timedOut ? `after ${validateTimeoutMs / 1000} s` : `: ${error ?? ''}`;
    throw new UpdateError('unavailable', `puppet parser validate did not finish ${how}`, {
      hint: 'run it by hand on the manifest to see why',
    });
  } finally {
    await rm(workDir, { recursive: true, force: true });
  }
}
