/**
 * Measures the time from a reconcile on nodes that have lost an applied content until each has it again, with
 * seeds that have seen them complete; or that of a roll-back by hand to a content that was applied before. Runs
 * in test/support/run/sandbox.sh (`npm run bench:lost`); see docs/performance.md.
 */
import { randomBytes } from 'node:crypto';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { contentFileName } from '../../lib/announcement/metainfo.ts';
import { exitStatus, formatError } from '../../lib/errors.ts';
import type { FleetNode } from '../support/fleet/fleet-node.ts';
import { startFleet } from '../support/fleet/fleet.ts';
import { prepareRollBack } from '../support/fleet/roll-back.ts';
import { hasEvent, submit } from '../support/fleet/submit.ts';
import { commandLineOf } from '../../scripts/cli/command-line.ts';

const help = `Usage: npm run bench:lost -- [--seeds N] [--losers N] [--rounds N] [--json]
       npm run bench:lost -- --rollback [--rounds N] [--json]

Submits 5 MB, waits until every node has applied them and the seeds know that, deletes them on some nodes,
and says how long after their next reconcile all of them have the content again, in milliseconds.
With --rollback a sender that is no target submits A to a canary, renews it for all, submits B, and then A
again: the time from that until the last of four targets has applied it.

  --seeds N    nodes that keep the content, the submitter among them (default 1)
  --losers N   nodes that lose it, all at once (default 1)
  --rounds N   times to lose it, or to go back (default 10)
  --json       one JSON object on the last line
`;

const bytes = 5_000_000;
const timeoutMs = 300_000;
/** Time in which a daemon has told its peers of its last pieces. */
const toldMs = 12_000;

async function measure(seeds: number, losers: number, rounds: number): Promise<number[]> {
  const fleet = await startFleet({ nodes: seeds + losers });
  try {
    const [operator] = fleet.nodes as [FleetNode];
    const lost = fleet.nodes.slice(seeds);
    const content = randomBytes(bytes);
    const file = join(fleet.directory, 'five.bin');
    writeFileSync(file, content);
    const update = await submit(operator, file);
    await fleet.waitFor(
      'every node has applied it',
      () => fleet.nodes.every((node) => hasEvent(node, update, 'applied')),
      timeoutMs,
    );
    const copyOn = ({ config }: FleetNode): string =>
      join(config.downloadDir, contentFileName(update));
    const isWhole = (node: FleetNode): boolean => {
      try {
        return readFileSync(copyOn(node)).equals(content);
      } catch {
        return false;
      }
    };
    const results: number[] = [];
    for (let round = 1; round <= rounds; round += 1) {
      await sleep(toldMs);
      for (const node of lost) rmSync(copyOn(node));
      const begin = Date.now();
      for (const node of lost) void node.script('reconcile', ['--no-wait']);
      await fleet.waitFor('all have it again', () => lost.every(isWhole), timeoutMs);
      results.push(Date.now() - begin);
      process.stderr.write(`round ${round}: ${results.at(-1)} ms\n`);
    }
    return results;
  } finally {
    fleet.stop();
  }
}

async function measureRollback(rounds: number): Promise<number[]> {
  const fleet = await startFleet({ nodes: 5 });
  try {
    const results: number[] = [];
    for (let round = 1; round <= rounds; round += 1) {
      const { goBack } = await prepareRollBack(fleet, fleet.nodes.slice(1), bytes, timeoutMs);
      results.push(await goBack());
      process.stderr.write(`round ${round}: ${results.at(-1)} ms\n`);
    }
    return results;
  } finally {
    fleet.stop();
  }
}

const { parse, usage } = commandLineOf(() => 'npm run bench:lost -- --help');

async function main(): Promise<void> {
  const { values } = parse({
    args: process.argv.slice(2),
    options: {
      seeds: { type: 'string', default: '1' },
      losers: { type: 'string', default: '1' },
      rounds: { type: 'string', default: '10' },
      rollback: { type: 'boolean', default: false },
      json: { type: 'boolean', default: false },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  const [seeds, losers, rounds] = [values.seeds, values.losers, values.rounds].map(Number) as [
    number,
    number,
    number,
  ];
  if (values.help) {
    process.stdout.write(help);
  } else if (![seeds, losers, rounds].every((n) => Number.isInteger(n) && n >= 1 && n <= 60)) {
    throw usage('--seeds, --losers and --rounds are whole numbers from 1 to 60');
  } else {
    const { rollback } = values;
    const measured = rollback ? measureRollback(rounds) : measure(seeds, losers, rounds);
    const wholeMs = (await measured).sort((a, b) => a - b);
    const of = rollback ? { rollback } : { seeds, losers };
    const report = { ...of, bytes, maxMs: Math.max(...wholeMs), wholeMs };
    if (values.json) console.log(JSON.stringify(report));
    else console.log(`${rollback ? 'applied' : 'whole'} again after ${wholeMs.join(', ')} ms`);
  }
}

try {
  await main();
} catch (error) {
  process.stderr.write(formatError('bench:lost', error));
  process.exitCode = exitStatus(error);
}
