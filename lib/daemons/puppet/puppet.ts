import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir, userInfo } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { shellCommand } from '../../command-hint.ts';
import { UpdateError } from '../../errors.ts';
import { printable } from '../../system/printable.ts';
import { endProcessGroup, type ProcessIdentity } from '../../system/process-group.ts';
import { findCommand, runCommand, type RunOutcome } from '../../system/run-command.ts';
import { failureReason, whereItEnded, noopChanges, syntaxFault } from './messages.ts';
import { readSummary, type RunSummary } from './run-summary.ts';

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
  /** For people, the fault's own words first, since it may be cut: 'applied', 'Exec[migrate]: returned 1', … */
  reason: string;
  /** Of Puppet; null when it did not end by itself, or for a plain file. */
  exitCode: number | null;
  /** Resources, from the run's own summary; null where there is none. */
  changed: number | null;
  failed: number | null;
  /** Of a noop run, as noopChanges lists them. */
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

/**
 * The environment of every run. A puppet.conf that sets `environment`, as one that was made for an agent with
 * a server does, otherwise ends each run before it begins: Puppet 7 and 8 look for a directory of that name
 * on the node (Puppet::ApplicationSupport.push_application_context).
 */
export const ownEnvironment = '--environment=production';

/**
 * Against settings in puppet.conf that leave out resources, take a catalog of another time, or refuse an
 * environment's own manifest: a run that did nothing by them would count as applied.
 */
const wholeCatalog = [
  '--tags=',
  '--skip_tags=',
  '--no-use_cached_catalog',
  '--no-disable_per_environment_manifest',
];

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
    throw new UpdateError('try-later', `Puppet was ended from outside (${signalOf(outcome)})`, {
      hint: 'the node tries the update again by itself; nothing needs to be done',
    });
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

function signalOf({ signal }: RunOutcome): string {
  return signal === 'SIGKILL'
    ? 'SIGKILL, as the kernel does for want of memory'
    : (signal ?? 'a signal');
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
        ownEnvironment,
        ...wholeCatalog,
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
  return judgeApply(outcome, await readSummary(summaryFile), run.noop, [
    ...[join(run.workDir, 'environments', 'production'), dirname(manifest)],
    ...[settings.moduleDir, ...settings.modulePath],
  ]);
}

/**
 * Judges a run by the codes of `puppet apply --detailed-exitcodes`: 0 and 2 are success, 4 and 6 are not.
 *
 * @param roots directories whose files are named by their paths below it
 */
function judgeApply(
  outcome: RunOutcome,
  summary: RunSummary | undefined,
  noop: boolean,
  roots: readonly string[],
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
  if (exitCode !== 4 && exitCode !== 6) return didNotRun(outcome, roots);
  const reason = failureReason(outcome.output, roots) ?? `failed resources: ${failed ?? '?'}`;
  return { ok: false, reason, exitCode, changed, failed };
}

function didNotEnd({ timedOut, signal, output }: RunOutcome): ApplyResult {
  const where = whereItEnded(output);
  const how = timedOut ? 'timeout' : `Puppet was ended by ${signal ?? 'a signal'}`;
  const reason = where === undefined ? how : `${how}, ${where}`;
  return { ok: false, reason, exitCode: null, changed: null, failed: null };
}

/**
 * The result of a run that applied nothing, with the error that ended it.
 *
 * @param roots directories whose files are named by their paths below it
 */
export function didNotRun(outcome: RunOutcome, roots: readonly string[]): ApplyResult {
  const { exitCode, output } = outcome;
  if (outcome.timedOut || exitCode === null) return didNotEnd(outcome);
  const reason = failureReason(output, roots) ?? 'Puppet did not run, and did not say why';
  return { ok: false, reason, exitCode, changed: null, failed: null };
}

/**
 * Checks a manifest's syntax with `puppet parser validate`, as any user and without reading or writing
 * Puppet's own directories.
 *
 * @param path of the manifest, or of a copy of it
 * @param name of the manifest for messages, as the operator typed it
 * @throws UpdateError `malformed` with Puppet's message, the line and the column; `unavailable` when Puppet
 *   cannot be run
 */
export async function checkManifest(
  path: string,
  name: string,
  settings: PuppetSettings,
): Promise<void> {
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
    const fault = syntaxFault(outcome.output);
    const byHand = shellCommand('puppet', 'parser', 'validate', printable(resolve(name)));
    if (outcome.exitCode === 1 && fault !== undefined) {
      const column = fault.column === null ? '' : `, column ${fault.column}`;
      const place = fault.line === null ? '' : `line ${fault.line}${column}: `;
      throw new UpdateError(
        'malformed',
        `"${printable(name)}" does not parse: ${place}${fault.error}`,
        {
          hint: `correct the manifest; check it with: ${byHand}`,
        },
      );
    }
    const how = outcome.timedOut
      ? `did not finish after ${validateTimeoutMs / 1000} s`
      : `failed: ${failureReason(outcome.output, []) ?? 'it did not say why'}`;
    throw new UpdateError('unavailable', `puppet parser validate ${how}`, {
      hint: `run it by hand to see why: ${byHand}`,
    });
  } finally {
    await rm(workDir, { recursive: true, force: true });
  }
}
