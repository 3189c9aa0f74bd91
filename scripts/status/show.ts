import { setTimeout as sleep } from 'node:timers/promises';
import type { Config } from '../../lib/config.ts';
import { commandHint } from '../../lib/command-hint.ts';
import { UpdateError, exitStatus, formatError } from '../../lib/errors.ts';
import { findAnnounced } from '../../lib/query/announced.ts';
import { askSummaries } from '../../lib/query/ask-fleet.ts';
import { judgeFleet, type NodeRow, verdictStatuses } from '../../lib/query/judge-fleet.ts';
import { currentKeySet } from '../../lib/state/key-chain.ts';
import { connectSerf } from '../../lib/daemons/serf/client.ts';
import { asciiOnly } from '../../lib/system/printable.ts';
import { UnknownWordError } from '../cli/command-line.ts';
import { endBySignal, endWithReader, print } from '../cli/output.ts';
import { nowSeconds } from '../cli/time.ts';
import { isRestartLoop, restartLoopText, serfJournal } from '../doctor/serf-checks.ts';
import { showUnits } from '../doctor/systemd.ts';
import type { StatusOptions } from './arguments.ts';
import { statusJson, statusLines, type Report } from './report.ts';

/** A narrower terminal wraps the lines. */
const minColumns = 60;

async function askFleet(config: Config, channel: string | undefined): Promise<Report> {
  const serf = connectSerf(config.serf);
  const members = await serf.members().catch(async (error: unknown) => {
    throw await explainedByUnit(error);
  });
  const alive = members.filter(({ status }) => status === 'alive').map(({ name }) => name);
  const answers = await askSummaries(serf, alive);
  const announced = await findAnnounced(config, serf, answers);
  const at = nowSeconds();
  const { staleAfterSeconds } = config;
  const judged = { members, answers, announced, channel, staleAfterSeconds, nowSeconds: at };
  return { ...judgeFleet(judged), fleet: fleetId(config), at, staleAfterSeconds, announced };
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

/** Asks the fleet, and formats its report for a terminal of that many lines, or without a limit. */
async function show(
  config: Config,
  { channel, json, node, rows }: StatusOptions,
  height: number | null,
): Promise<string> {
  const report = await askFleet(config, channel);
  const one = node === undefined ? undefined : findNode(report, node);
  process.exitCode = verdictStatuses[(one ?? report).verdict];
  if (json) return `${statusJson(report, { rows, node })}\n`;
  const { stdout } = process;
  // A pipe or a file gets whole lines.
  const width = stdout.isTTY ? Math.max(stdout.columns, minColumns) : Infinity;
  return `${statusLines(report, { rows, node, width, height }).join('\n')}\n`;
}

function findNode({ nodes }: Report, name: string): NodeRow {
  const node = nodes.find((each) => each.name === name);
  if (node !== undefined) return node;
  throw new UnknownWordError(`there is no member ${JSON.stringify(asciiOnly(name))}`, {
    hint: `names of members: ${commandHint('status', '--all')}`,
    word: name,
    known: nodes.map((each) => each.name),
  });
}

/** Repeats the status every `seconds`, until the process ends. */
async function watch(config: Config, options: StatusOptions, seconds: number): Promise<void> {
  endWithReader();
  endBySignal();
  const { stdout } = process;
  for (let isFirst = true; ; isFirst = false) {
    // The last line is the cursor's.
    const height = stdout.isTTY ? stdout.rows - 1 : null;
    const text = await show(config, options, height).catch((error: unknown) => {
      process.exitCode = exitStatus(error);
      return formatError('status', error);
    });
    if (options.json) print(text);
    else if (stdout.isTTY) print(`\u001b[H\u001b[2J${text}`);
    else print(isFirst ? text : `\n${text}`);
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
  else print(await show(config, options, null));
}
