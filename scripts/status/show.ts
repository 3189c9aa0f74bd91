import { setTimeout as sleep } from 'node:timers/promises';
import type { Config } from '../../lib/config.ts';
import { UpdateError, exitStatus, formatError } from '../../lib/errors.ts';
import { askSummaries } from '../../lib/query/ask-fleet.ts';
import { judgeFleet, verdictStatuses } from '../../lib/query/judge-fleet.ts';
import { currentKeySet } from '../../lib/state/key-chain.ts';
import { connectSerf } from '../../lib/daemons/serf/client.ts';
import { endBySignal, endWithReader, print } from '../cli/output.ts';
import { nowSeconds } from '../cli/time.ts';
import { isRestartLoop, restartLoopText, serfJournal } from '../doctor/serf-checks.ts';
import { showUnits } from '../doctor/systemd.ts';
import type { StatusOptions } from './arguments.ts';
import { statusJson, statusLines, type Report } from './report.ts';

async function askFleet(config: Config, channel: string | undefined): Promise<Report> {
  const serf = connectSerf(config.serf);
  const members = await serf.members().catch(async (error: unknown) => {
    throw await explainedByUnit(error);
  });
  const alive = members.filter(({ status }) => status === 'alive').map(({ name }) => name);
  const answers = await askSummaries(serf, alive);
  const at = nowSeconds();
  const { staleAfterSeconds } = config;
  const status = judgeFleet({ members, answers, channel, staleAfterSeconds, nowSeconds: at });
  return { ...status, fleet: fleetId(config), at, staleAfterSeconds };
}

/** The same error, or the restart loop of the agent that is behind it, where systemd knows of one. */
async function explainedByUnit(error: unknown): Promise<unknown> {
  if (!(error instanceof UpdateError) || error.code !== 'unavailable') return error;
  const unit = (await showUnits(['serf.service']))?.get('serf.service') ?? null;
  if (unit === null || !isRestartLoop(unit)) return error;
  return new UpdateError('unavailable', restartLoopText(unit), { hint: serfJournal, cause: error });
}

/** The fleet's id, or a text in its place: the status of a fleet needs no key set. */
function fleetId(config: Config): string {
  try {
    return currentKeySet(config).fleet;
  } catch (error) {
    if (error instanceof UpdateError) return '(key set unusable)';
    throw error;
  }
}

async function show(config: Config, { channel, json }: StatusOptions): Promise<string> {
  const report = await askFleet(config, channel);
  process.exitCode = verdictStatuses[report.verdict];
  return json ? `${statusJson(report)}\n` : `${statusLines(report).join('\n')}\n`;
}

/** Repeats the status every `seconds`, until the process ends. */
async function watch(config: Config, options: StatusOptions, seconds: number): Promise<void> {
  endWithReader();
  endBySignal();
  const { stdout } = process;
  for (let isFirst = true; ; isFirst = false) {
    const text = await show(config, options).catch((error: unknown) => {
      process.exitCode = exitStatus(error);
      return formatError('status', error);
    });
    if (options.json) print(text);
    else if (stdout.isTTY) {
      const lines = text
        .trimEnd()
        .split('\n')
        .slice(0, stdout.rows - 1);
      print(`\u001b[H\u001b[2J${lines.join('\n')}\n`);
    } else print(isFirst ? text : `\n${text}`);
    await sleep(seconds * 1000);
  }
}

/**
 * Shows the updates of every node of the fleet, and whether the fleet has converged: once, or repeatedly.
 * Sets the exit status by the verdict.
 *
 * @throws UpdateError `unavailable` when Serf is down; with --watch that is printed instead
 */
export async function showFleet(config: Config, options: StatusOptions): Promise<void> {
  if (options.watchSeconds !== null) await watch(config, options, options.watchSeconds);
  else print(await show(config, options));
}
