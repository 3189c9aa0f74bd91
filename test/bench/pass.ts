/**
 * Work of one pass over many channels: how often announcements are decoded and verified, how long a
 * pass takes, and what a flooded directory costs root. See docs/performance.md.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { exitStatus, formatError } from '../../lib/errors.ts';
import { advance } from '../../lib/reconciler/advance/advance.ts';
import { commandLineOf } from '../../scripts/cli/command-line.ts';
import { type ApplySide, makeApplySide } from '../support/fleet/apply-side.ts';
import { MemoryTransmission, noAnnounces } from '../support/fleet/memory-transmission.ts';
import { plantAnnouncements } from '../support/hostile/announcement-flood.ts';
import { countCalls } from '../support/run/call-counts.ts';
import { peakMemoryArguments, peakMemoryMb } from '../support/run/peak-memory.ts';

const help = `Usage: npm run bench:pass -- [--channels N] [--flood N] [--json]

Runs advance and apply over N channels with one file each: when all of them are due, and when nothing
is. Then starts the real apply program beside N empty files in the directory of the announcements.

  --channels N   channels, each with one update (default 40, at most 64)
  --flood N      planted files (default 400000; 0: none)
  --json         one JSON object on the last line: {"channels","decodes","verifications" (of the pass
                 that has most), "passes", "applyMs" (all due), "idleMs", "floodFiles", "floodMs",
                 "floodPeakMb"}
`;

const counted = ['decodeAnnouncement', 'verifyAnnouncement'] as const;

interface Pass {
  name: string;
  decodes: number;
  verifications: number;
  ms: number;
}

async function measurePasses(directory: string, channels: number): Promise<Pass[]> {
  const timed = makeNode(join(directory, 'timed'), channels);
  const watched = makeNode(join(directory, 'watched'), channels);
  const passes: Pass[] = [];
  const steps: [name: string, take: (node: ApplySide) => Promise<unknown>][] = [
    ['apply, all due', (node) => node.apply()],
    ['apply, idle', (node) => node.apply()],
    ['advance, idle', idleAdvance],
  ];
  for (const [name, take] of steps) {
    // Counting slows a pass down, so another node is timed.
    const begin = performance.now();
    await take(timed);
    const ms = Math.round(performance.now() - begin);
    const calls = await countCalls(counted, () => take(watched));
    passes.push({
      ...{ name, ms },
      decodes: calls.decodeAnnouncement,
      verifications: calls.verifyAnnouncement,
    });
  }
  return passes;
}

function makeNode(directory: string, channels: number): ApplySide {
  const node = makeApplySide(directory);
  for (let index = 0; index < channels; index += 1)
    node.receive(
      { kind: 'file', channel: `channel-${index}`, name: `file-${index}.bin` },
      Buffer.from(`content ${index}`),
    );
  return node;
}

/** Runs advance with a daemon that has no torrents, since applied content is not asked for again. */
async function idleAdvance({ config }: ApplySide): Promise<void> {
  const transmission = new MemoryTransmission(new Map(), config.downloadDir).connect();
  const tasks = await advance(config, {
    transmission,
    ...noAnnounces(),
    nowSeconds: () => Math.floor(Date.now() / 1000),
    buildTime: 0,
    log: () => undefined,
    warn: () => undefined,
    hooks: [],
  });
  await Promise.allSettled(tasks);
}

/** Measures the apply program of dist/ beside planted files: wall time and peak memory of the process. */
function measureFlood(directory: string, files: number): { ms: number; peakMb: number } {
  const { config } = makeNode(join(directory, 'flooded'), 1);
  plantAnnouncements(config.stateDir, files, 100);
  const configFile = join(directory, 'config.json');
  writeFileSync(configFile, JSON.stringify(config));
  const begin = performance.now();
  const { status, stderr } = spawnSync(
    process.execPath,
    [
      ...peakMemoryArguments(directory),
      join(import.meta.dirname, '../../dist/p2p-update.cjs'),
      'apply',
    ],
    { env: { PATH: process.env['PATH'], P2P_UPDATE_CONFIG: configFile }, encoding: 'utf8' },
  );
  const ms = Math.round(performance.now() - begin);
  if (status !== 0) throw new Error(`apply ended with ${String(status)}: ${stderr}`);
  return { ms, peakMb: Math.round(peakMemoryMb(stderr)) };
}

const { parse, usage } = commandLineOf(() => 'npm run bench:pass -- --help');

async function main(): Promise<void> {
  const { values } = parse({
    args: process.argv.slice(2),
    options: {
      channels: { type: 'string', default: '40' },
      flood: { type: 'string', default: '400000' },
      json: { type: 'boolean', default: false },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  if (values.help) {
    process.stdout.write(help);
    return;
  }
  const [channels, files] = [Number(values.channels), Number(values.flood)];
  if (!Number.isInteger(channels) || channels < 1 || channels > 64)
    throw usage('--channels is a whole number from 1 to 64');
  if (!Number.isInteger(files) || files < 0 || files > 1_000_000)
    throw usage('--flood is a whole number from 0 to 1000000');
  const directory = mkdtempSync(join(tmpdir(), 'p2p-update-bench-'));
  try {
    const passes = await measurePasses(directory, channels);
    const flood = files === 0 ? null : measureFlood(directory, files);
    const msOf = (name: string): number => passes.find((each) => each.name === name)?.ms ?? NaN;
    const report = {
      channels,
      decodes: Math.max(...passes.map(({ decodes }) => decodes)),
      verifications: Math.max(...passes.map(({ verifications }) => verifications)),
      idleMs: msOf('apply, idle') + msOf('advance, idle'),
      applyMs: msOf('apply, all due'),
      passes,
      floodFiles: files,
      floodMs: flood?.ms ?? null,
      floodPeakMb: flood?.peakMb ?? null,
      node: process.version,
    };
    if (values.json) console.log(JSON.stringify(report));
    else {
      console.table(passes);
      if (flood !== null)
        console.log(`beside ${files} planted files: ${flood.ms} ms, peak ${flood.peakMb} MB`);
    }
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

try {
  await main();
} catch (error) {
  process.stderr.write(formatError('bench:pass', error));
  process.exitCode = exitStatus(error);
}
