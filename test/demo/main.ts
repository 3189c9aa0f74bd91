/**
 * Brings up a fleet of three nodes on this machine, each with a Serf agent, a Transmission daemon and
 * Puppet directories of its own, sends it updates, and shows their progress. Runs in
 * test/support/run/sandbox.sh (`npm run demo`), so that nothing of the machine is touched.
 */
import { mkdirSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { UpdateError, exitStatus, formatError } from '../../lib/errors.ts';
import type { FleetNode } from '../support/fleet/fleet-node.ts';
import { type Fleet, startFleet } from '../support/fleet/fleet.ts';
import { type DemoUpdate, writeContents } from './contents.ts';
import { type NodeOutcome, type Sent, follow, followRefusal } from './follow.ts';
import { Screen, seconds, table } from './screen.ts';
import { commandLineOf } from '../../scripts/cli/command-line.ts';

const help = `Usage: npm run demo [-- [--json] [--keep DIRECTORY]]

Shows a fleet of three nodes, in network namespaces of this machine, taking six updates.

  --json            one JSON object with all times as the last line of standard output
  --keep DIRECTORY  put the files of the fleet there, and leave them, to look at its logs
  --help

Exit status: 0 when every node applied every update, 1 when one did not.
`;

const { parse } = commandLineOf(() => 'npm run demo -- --help');

const nodeCount = 3;

interface Report {
  kind: string;
  version: number;
  submittedAt: string;
  nodes: NodeOutcome[];
}

async function main(): Promise<void> {
  const options = parseOptions();
  if (options.help) {
    process.stdout.write(help);
    return;
  }
  const screen = new Screen(process.stdout, process.env);
  const begin = Date.now();
  const stopOnSignal = catchSignals(screen);
  screen.line(
    screen.style('bold', `p2p-update demo: ${nodeCount} nodes on this machine, and no server`),
  );
  screen.status('starting the nodes');
  const fleet = await startFleet({ nodes: nodeCount, facts: 'collected', ...options.files });
  stopOnSignal(fleet);
  let ok = false;
  try {
    screen.clearStatus();
    const addresses = fleet.nodes.map(({ name, address }) => `${name} ${address}`).join(', ');
    screen.line(`${addresses}: each with Serf, Transmission and Puppet of its own.`);
    screen.line(`Serf and Transmission were up after ${seconds(Date.now() - begin)}.`);
    const reports: Report[] = [];
    const refused = await play(fleet, screen, reports);
    const isAllApplied = reports.length === 6 && reports.every(isComplete);
    const hasConverged = isAllApplied && (await showStatus(fleet, screen));
    ok = refused && hasConverged;
    showSummary(screen, reports, ok);
    if (!ok) showLogs(missing(fleet, reports));
    screen.line(`The demo took ${seconds(Date.now() - begin)}.`);
    if (options.json) {
      process.stdout.write(`${JSON.stringify({ nodes: nodeCount, updates: reports, ok })}\n`);
    }
  } catch (error) {
    screen.clearStatus();
    showLogs(fleet.nodes.slice(0, 1));
    throw error;
  } finally {
    fleet.stop();
  }
  process.exitCode = ok ? 0 : 1;
}

/**
 * Plays the scenario. Ends early when a node misses an update: the next one would only wait.
 *
 * @param reports gets one entry for each update
 * @returns whether every node refused the older manifest
 */
async function play(fleet: Fleet, screen: Screen, reports: Report[]): Promise<boolean> {
  const contentDir = join(fleet.directory, 'contents');
  mkdirSync(contentDir);
  const contents = writeContents(contentDir);
  const [n1, n2] = fleet.nodes as [FleetNode, FleetNode];
  const round = async (update: DemoUpdate): Promise<Sent | undefined> => {
    screen.heading(`${reports.length + 1}. ${update.title}: ${basename(update.path)}`);
    screen.status('n1 hashes, signs and sends it');
    const sent = await submit(n1, update);
    screen.event(0, n1.name, `submitted: ${sent.kind}, channel ${sent.channel}, ${sent.size}`);
    const nodes = await follow(fleet.nodes, update, sent, screen);
    const { kind, version } = sent;
    const report = { kind, version, submittedAt: new Date(sent.at).toISOString(), nodes };
    reports.push(report);
    return isComplete(report) ? sent : undefined;
  };

  const older = await round(contents.first);
  if (older === undefined || (await round(contents.newer)) === undefined) return false;

  screen.heading('The first manifest is sent once more');
  const again = { ...older, from: n2.name, at: Date.now() };
  screen.event(0, n2.name, 'sent: the very bytes of update 1');
  await n2.serfCommand(['event', '-coalesce=false', '--', 'update', older.payload]);
  const isRefused = (await followRefusal(fleet.nodes, again, screen)) === nodeCount;

  for (const update of [contents.module, contents.moduleUser, contents.directory, contents.file]) {
    if ((await round(update)) === undefined) break;
  }
  return isRefused;
}

/** Submits an update on a node, as an operator does. */
async function submit(node: FleetNode, update: DemoUpdate): Promise<Sent & { size: string }> {
  const channel = update.channel === null ? [] : ['--channel', update.channel];
  const result = await node.script('submit', [update.path, ...channel, '--json']);
  if (result.status !== 0) {
    throw new UpdateError('internal', `submit ended with ${result.status}: ${result.stderr}`, {
      hint: 'this node is n1; its logs are above',
    });
  }
  const reply = JSON.parse(result.stdout.trimEnd().split('\n').at(-1) ?? '') as {
    kind: string;
    channel: string;
    version: number;
    payload: string;
    payloadChars: number;
    pieces: 'in' | 'magnet';
    submittedAt: string;
  };
  const { kind, channel: chosen, version, payload, payloadChars, pieces } = reply;
  const how = pieces === 'in' ? 'with the torrent in it' : 'with a magnet link in it';
  const size = `an event of ${payloadChars} characters ${how}`;
  const at = Date.parse(reply.submittedAt);
  return { kind, channel: chosen, version, payload, from: node.name, at, size };
}

/** Shows the fleet's status as an operator sees it; returns whether it has converged. */
async function showStatus({ nodes }: Fleet, screen: Screen): Promise<boolean> {
  screen.heading('The status of the fleet: p2p-update status');
  screen.status('n1 asks every node');
  const result = await nodes[0]?.script('status', []);
  screen.clearStatus();
  const text = `${result?.stdout ?? ''}${result?.stderr ?? ''}`.trimEnd();
  for (const line of text.split('\n')) screen.line(`  ${line}`.trimEnd());
  return result?.status === 0;
}

function isComplete({ nodes }: Report): boolean {
  return nodes.every(({ state }) => state === 'APPLIED');
}

function showSummary(screen: Screen, reports: readonly Report[], ok: boolean): void {
  const names = reports[0]?.nodes.map(({ name }) => name) ?? [];
  const rows = reports.map(({ kind, version, nodes }, index) => [
    String(index + 1),
    kind,
    String(version),
    ...nodes.map(({ appliedMs, state }) =>
      appliedMs === null || state !== 'APPLIED' ? state : seconds(appliedMs),
    ),
  ]);
  screen.heading('From submitted to applied');
  const header = ['', 'kind', 'version', ...names];
  for (const line of table([header, ...rows])) screen.line(line);
  screen.line();
  if (ok) {
    screen.line(
      screen.style('green', 'Every node applied every update, and refused the older one.'),
    );
  } else if (reports.every(isComplete)) {
    screen.line(screen.style('red', 'Not every node refused the older manifest.'));
  } else {
    screen.line(screen.style('red', 'A node missed an update.'));
  }
}

/** Names the nodes that failed. */
function missing(fleet: Fleet, reports: readonly Report[]): FleetNode[] {
  const failed = reports.flatMap(({ nodes }) => nodes.filter(({ state }) => state !== 'APPLIED'));
  if (failed.length === 0) return fleet.nodes;
  return fleet.nodes.filter((node) => failed.some(({ name }) => name === node.name));
}

function showLogs(nodes: readonly FleetNode[]): void {
  const logs = nodes.map((node) => node.logs()).join('\n');
  process.stderr.write(`\n${logs}\n\nThe whole logs: npm run demo -- --keep DIRECTORY\n`);
}

/** Takes everything down on Ctrl-C and its like, however often they come. */
function catchSignals(screen: Screen): (fleet: Fleet) => void {
  let running: Fleet | undefined;
  let exitCode: number | undefined;
  const end = (): void => {
    if (running === undefined || exitCode === undefined) return;
    screen.clearStatus();
    running.stop();
    process.exit(exitCode);
  };
  for (const [signal, number] of [
    ['SIGHUP', 1],
    ['SIGINT', 2],
    ['SIGTERM', 15],
  ] as const) {
    process.on(signal, () => {
      exitCode ??= 128 + number;
      end();
    });
  }
  return (fleet) => {
    running = fleet;
    // The signal came while the fleet was starting.
    end();
  };
}

function parseOptions(): { json: boolean; files: { keepIn?: string }; help: boolean } {
  const { values } = parse({
    args: process.argv.slice(2),
    options: {
      json: { type: 'boolean', default: false },
      keep: { type: 'string' },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  const { json, help, keep } = values;
  return { json, help, files: keep === undefined ? {} : { keepIn: resolve(keep) } };
}

main().catch((error: unknown) => {
  process.stderr.write(formatError('demo', error));
  process.exitCode = exitStatus(error);
});
