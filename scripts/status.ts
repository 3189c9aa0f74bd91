/**
 * Shows what every node of the fleet runs, and whether the fleet has converged; or what this node logged.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { loadConfig, type Config } from '../lib/config.ts';
import { UpdateError, exitStatus, formatError, hasErrno } from '../lib/errors.ts';
import { askSummaries } from '../lib/query/ask-fleet.ts';
import { judgeFleet, verdictStatuses } from '../lib/query/judge-fleet.ts';
import { currentKeySet } from '../lib/state/key-chain.ts';
import { connectSerf } from '../lib/daemons/serf/client.ts';
import { help, parseCommand, type Command } from './status/arguments.ts';
import { statusJson, statusLines, type Report } from './status/report.ts';

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
  const { stdout } = process;
  for (let isFirst = true; ; isFirst = false) {
    const text = await show(config, command).catch((error: unknown) => {
      process.exitCode = exitStatus(error);
      return formatError('status', error);
    });
    if (command.json) stdout.write(text);
    else if (stdout.isTTY) {
      const lines = text
        .trimEnd()
        .split('\n')
        .slice(0, stdout.rows - 1);
      stdout.write(`\u001b[H\u001b[2J${lines.join('\n')}\n`);
    } else stdout.write(isFirst ? text : `\n${text}`);
    await sleep(seconds * 1000);
  }
}

async function main(): Promise<void> {
  const command = parseCommand(process.argv.slice(2));
  if (command.kind === 'help') {
    process.stdout.write(help);
    return;
  }
  // Watching ends so. The terminal sends Ctrl-C to Serf's command as well, whose failure is then
  // nobody's business.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
    process.once(signal, () => process.exit());
  const config = loadConfig(process.env);
  if (command.kind === 'log') {
    const { showLog } = await import('./status/log.ts');
    await showLog(config, command);
  } else if (command.watchSeconds !== null) await watch(config, command, command.watchSeconds);
  else process.stdout.write(await show(config, command));
}

process.stdout.on('error', (error) => {
  // `status.ts --watch | head` is no fault.
  if (hasErrno(error, 'EPIPE')) process.exit();
  throw error;
});

main().catch((error: unknown) => {
  process.stderr.write(formatError('status', error));
  process.exitCode = exitStatus(error);
});
