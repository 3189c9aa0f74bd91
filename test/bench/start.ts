/**
 * Measures the start of the update handler and of the program's help, in ratios to an empty Node process of
 * the same run: these machines are too noisy for absolute times. See docs/performance.md.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { exitStatus, formatError } from '../../lib/errors.ts';
import { commandLineOf } from '../../scripts/cli/command-line.ts';
import {
  makeAnnouncement,
  makeKeys,
  signAnnouncement,
  writeKeySet,
} from '../support/fleet/announce.ts';
import { peakMemoryArguments, peakMemoryMb } from '../support/run/peak-memory.ts';

const help = `Usage: npm run bench:start -- [--rounds N] [--json]

Runs dist/handlers/update.cjs on a new, a forged and an old announcement, the handler's source by tsx
without its cache, and p2p-update --help and submit --help, each beside an empty Node process; prints
medians of the ratios of paired runs.

  --rounds N   measured rounds (default 60)
  --json       one JSON object on the last line
`;

const warmUpRounds = 5;
const root = join(import.meta.dirname, '..', '..');
const handler = join(root, 'dist/handlers/update.cjs');
const program = join(root, 'dist/p2p-update.cjs');

interface Run {
  args: string[];
  command?: string;
  payload?: () => string;
  status: number;
  /** Added to the environment. */
  env?: Record<string, string>;
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const upper = sorted[middle] ?? NaN;
  return sorted.length % 2 === 1 ? upper : (upper + (sorted[middle - 1] ?? NaN)) / 2;
}

function measure(rounds: number, directory: string) {
  const keys = makeKeys();
  const strangers = makeKeys();
  const keySetFile = join(directory, 'keyset.txt');
  const configFile = join(directory, 'config.json');
  const stateDir = join(directory, 'state');
  writeKeySet(keySetFile, keys);
  mkdirSync(stateDir);
  writeFileSync(configFile, JSON.stringify({ stateDir, keySetFile, trigger: 'spool' }));
  // As Serf runs a handler: its few variables, and none that slows Node down.
  const env = {
    PATH: process.env['PATH'],
    P2P_UPDATE_CONFIG: configFile,
    SERF_EVENT: 'user',
    SERF_USER_EVENT: 'update',
    SERF_USER_LTIME: '1',
    SERF_SELF_NAME: 'bench',
  };
  let version = Math.floor(Date.now() / 1000);
  const next = (): string => {
    version += 1;
    return signAnnouncement(makeAnnouncement({ version }), keys);
  };
  const forged = signAnnouncement(makeAnnouncement(), strangers);
  const old = signAnnouncement(makeAnnouncement({ version: 1 }), keys);
  const runs: Record<'empty' | 'accept' | 'forged' | 'old' | 'help' | 'submitHelp' | 'tsx', Run> = {
    empty: { args: ['-e', '0'], status: 0 },
    accept: { args: [handler], payload: next, status: 0 },
    forged: { args: [handler], payload: () => forged, status: 77 },
    old: { args: [handler], payload: () => old, status: 76 },
    help: { args: [program, '--help'], status: 0 },
    submitHelp: { args: [program, 'submit', '--help'], status: 0 },
    tsx: {
      command: join(root, 'node_modules/.bin/tsx'),
      args: [join(root, 'handlers/update.ts')],
      payload: next,
      status: 0,
      env: { TSX_DISABLE_CACHE: '1' },
    },
  };
  const names = Object.keys(runs) as (keyof typeof runs)[];
  const times: Record<string, number[]> = {};

  const time = (run: Run, extraArgs: string[] = []): { ms: number; stderr: string } => {
    const input = run.payload?.() ?? '';
    const begin = performance.now();
    const { status, stderr } = spawnSync(
      run.command ?? process.execPath,
      [...extraArgs, ...run.args],
      { env: { ...env, ...run.env }, input, encoding: 'utf8' },
    );
    const ms = performance.now() - begin;
    if (status !== run.status)
      throw new Error(`exit status ${String(status)}, not ${run.status}: ${stderr}`);
    return { ms, stderr };
  };

  for (let round = 0; round < warmUpRounds + rounds; round += 1) {
    // In turn, so that no variant always runs in another's wake.
    for (const [index] of names.entries()) {
      const name = names[(index + round) % names.length] ?? 'empty';
      const { ms } = time(runs[name]);
      if (round >= warmUpRounds) (times[name] ??= []).push(ms);
    }
  }

  const empty = times['empty'] ?? [];
  const ratio = (name: string): number =>
    round2(median((times[name] ?? []).map((ms, index) => ms / (empty[index] ?? NaN))));
  const { stderr } = time(runs.accept, peakMemoryArguments(directory));
  return {
    acceptRatio: ratio('accept'),
    forgedRatio: ratio('forged'),
    oldRatio: ratio('old'),
    helpRatio: ratio('help'),
    submitHelpRatio: ratio('submitHelp'),
    tsxRatio: ratio('tsx'),
    medianMs: Object.fromEntries(names.map((name) => [name, round2(median(times[name] ?? []))])),
    peakMb: round2(peakMemoryMb(stderr)),
    bundleKb: round2(statSync(handler).size / 1024),
    rounds,
    node: process.version,
  };
}

function round2(value: number): number {
  return Math.round(value * 100) / 100;
}

const { parse, usage } = commandLineOf(() => 'npm run bench:start -- --help');

function main(): void {
  const { values } = parse({
    args: process.argv.slice(2),
    options: {
      rounds: { type: 'string', default: '60' },
      json: { type: 'boolean', default: false },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  const rounds = Number(values.rounds);
  if (values.help) {
    process.stdout.write(help);
  } else if (!Number.isInteger(rounds) || rounds < 1 || rounds > 10_000) {
    throw usage('--rounds must be a whole number from 1 to 10000');
  } else {
    const directory = mkdtempSync(join(tmpdir(), 'p2p-update-bench-'));
    try {
      const result = measure(rounds, directory);
      if (values.json) {
        console.log(JSON.stringify(result));
      } else {
        console.table({
          'new announcement': { ratio: result.acceptRatio, ms: result.medianMs['accept'] },
          forged: { ratio: result.forgedRatio, ms: result.medianMs['forged'] },
          'old version': { ratio: result.oldRatio, ms: result.medianMs['old'] },
          'p2p-update --help': { ratio: result.helpRatio, ms: result.medianMs['help'] },
          'submit --help': { ratio: result.submitHelpRatio, ms: result.medianMs['submitHelp'] },
          'new, by tsx': { ratio: result.tsxRatio, ms: result.medianMs['tsx'] },
          'node -e 0': { ratio: 1, ms: result.medianMs['empty'] },
        });
        console.log(`peak memory ${result.peakMb} MiB, bundle ${result.bundleKb} KiB`);
      }
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  }
}

try {
  main();
} catch (error) {
  process.stderr.write(formatError('bench:start', error));
  process.exitCode = exitStatus(error);
}
