/**
 * Measures the time of an update from its event until every node has it, on three nodes with real
 * daemons. Runs in test/support/run/sandbox.sh (`npm run bench:swarm`); see docs/performance.md.
 */
import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { exitStatus, formatError } from '../../lib/errors.ts';
import type { FleetNode } from '../support/fleet/fleet-node.ts';
import { startFleet } from '../support/fleet/fleet.ts';
import { commandLineOf } from '../../scripts/cli/command-line.ts';

const help = `Usage: npm run bench:swarm -- [--mib N] [--rounds N] [--json]

Submits a random file on one of three nodes, and says how long each took, in milliseconds since the
Serf event was sent: until the handler had accepted it, and until Transmission had all of it.

  --mib N      size of the file in MiB (default 1)
  --rounds N   files to submit, one after the other (default 5)
  --json       one JSON object on the last line
`;

const nodes = 3;
const timeoutMs = 300_000;

interface Round {
  pieces: string;
  /** The operator's command, until the event was sent. */
  submitMs: number;
  /** Of the last node. */
  acceptedMs: number;
  completeMs: number;
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor((sorted.length - 1) / 2)] ?? NaN;
}

async function measure(mebibytes: number, rounds: number): Promise<Round[]> {
  const fleet = await startFleet({ nodes, facts: 'collected' });
  try {
    const [operator] = fleet.nodes as [FleetNode];
    const results: Round[] = [];
    for (let round = 1; round <= rounds; round += 1) {
      const file = join(fleet.directory, `bench-${round}.bin`);
      writeFileSync(file, randomBytes(mebibytes * 2 ** 20));
      const begin = Date.now();
      const { status, stdout, stderr } = await operator.script('submit', [file, '--json']);
      if (status !== 0) throw new Error(stderr);
      const sent = JSON.parse(stdout) as { version: number; pieces: string; submittedAt: string };
      const sentAt = Date.parse(sent.submittedAt);
      const lastMs = (decision: string): number | undefined => {
        const times = fleet.nodes.map((node) =>
          node.events().find((e) => e.version === sent.version && e.decision === decision),
        );
        const ms = times.map((event) => Date.parse(event?.time ?? '') - sentAt);
        return ms.some(Number.isNaN) ? undefined : Math.max(...ms);
      };
      const isApplied = (): boolean => lastMs('applied') !== undefined;
      await fleet.waitFor('every node has applied it', isApplied, timeoutMs);
      results.push({
        pieces: sent.pieces,
        submitMs: sentAt - begin,
        acceptedMs: lastMs('accept') ?? NaN,
        completeMs: lastMs('complete') ?? NaN,
      });
    }
    return results;
  } finally {
    fleet.stop();
  }
}

const { parse, usage } = commandLineOf(() => 'npm run bench:swarm -- --help');

async function main(): Promise<void> {
  const { values } = parse({
    args: process.argv.slice(2),
    options: {
      mib: { type: 'string', default: '1' },
      rounds: { type: 'string', default: '5' },
      json: { type: 'boolean', default: false },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  const [mebibytes, rounds] = [Number(values.mib), Number(values.rounds)];
  if (values.help) {
    process.stdout.write(help);
  } else if (![mebibytes, rounds].every((n) => Number.isInteger(n) && n >= 1 && n <= 1024)) {
    throw usage('--mib and --rounds are whole numbers from 1 to 1024');
  } else {
    const results = await measure(mebibytes, rounds);
    const medianCompleteMs = median(results.map(({ completeMs }) => completeMs));
    const maxCompleteMs = Math.max(...results.map(({ completeMs }) => completeMs));
    if (values.json) {
      const report = { nodes, mebibytes, medianCompleteMs, maxCompleteMs, rounds: results };
      console.log(JSON.stringify(report));
    } else {
      console.table(results);
      console.log(
        `all ${nodes} nodes complete: median ${medianCompleteMs} ms, at most ${maxCompleteMs}`,
      );
    }
  }
}

try {
  await main();
} catch (error) {
  process.stderr.write(formatError('bench:swarm', error));
  process.exitCode = exitStatus(error);
}
