import { setTimeout as sleep } from 'node:timers/promises';
import type { Config } from '../../lib/config.ts';
import { UpdateError, exitStatus, formatError } from '../../lib/errors.ts';
import { askSummaries } from '../../lib/query/ask-fleet.ts';
import { judgeFleet, verdictStatuses } from '../../lib/query/judge-fleet.ts';
import { currentKeySet } from '../../lib/state/key-chain.ts';
import { connectSerf } from '../../lib/daemons/serf/client.ts';
import type { Command } from './arguments.ts';
import { endWithReader, print } from '../cli/output.ts';
import { statusJson, statusLines, type Report } from './report.ts';

type StatusCommand = Extract<Command, { kind: 'status' }>;

async function askFleet(config: Config, channel: string | undefined): Promise<Report> {
  const serf = connectSerf(config.serf);
  const members = await serf.members();
  const alive = members.filter(({ status }) => status === 'alive').map(({ name }) => name);
  const answers = await askSummaries(serf, alive);
  const at = Math.floor(Date.now() / 1000);
  const { staleAfterSeconds } = config;
  const status = judgeFleet({ members, answers, channel, staleAfterSeconds, nowSeconds: at });
  return { ...status, fleet: fleetId(config), at, staleAfterSeconds };
}

/** Whoever cannot read the key set may still look at the fleet. */
function fleetId(config: Config): string {
  try {
    return currentKeySet(config).fleet;
  } catch (error) {
    if (error instanceof UpdateError) return '(key set unusable)';
    throw error;
  }
}

async function show(config: Config, { channel, json }: StatusCommand): Promise<string> {
  const report = await askFleet(config, channel);
  process.exitCode = verdictStatuses[report.verdict];
  return json ? `${statusJson(report)}\n` : `${statusLines(report).join('\n')}\n`;
}

/** Shows it again and again, until the process is ended. */
async function watch(config: Config, command: StatusCommand, seconds: number): Promise<void> {
  endWithReader();
  const { stdout } = process;
  for (let isFirst = true; ; isFirst = false) {
    const text = await show(config, command).catch((error: unknown) => {
      process.exitCode = exitStatus(error);
      return formatError('status', error);
    });
    if (command.json) print(text);
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

/** Shows what every node of the fleet runs, and whether the fleet has converged: once, or again and again. */
export async function showFleet(config: Config, command: StatusCommand): Promise<void> {
  if (command.watchSeconds !== null) await watch(config, command, command.watchSeconds);
  else print(await show(config, command));
}
