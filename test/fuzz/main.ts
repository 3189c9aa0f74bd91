/**
 * Sends mutated announcements through the decoder and the verifier that the update handler uses, and
 * counts crashes and false accepts, of payloads that are not genuine byte for byte: there must be none.
 */
import { fork, type ChildProcess } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { exitStatus, formatError } from '../../lib/errors.ts';
import { isFault, Judge, type Fault } from './judge.ts';
import { mutations } from './mutate.ts';
import type { Batch, BatchResult, Finding } from './worker.ts';
import { progressBar } from '../../scripts/cli/progress-bar.ts';
import { commandLineOf } from '../../scripts/cli/command-line.ts';

const help = `Usage: npm run fuzz -- [options]

Makes announcements of every kind, breaks them (bits, bytes, fields and ranges of others, signatures,
lengths, encodings), and sends each through the update handler's parser and verifier. Each must be
refused as malformed, untrusted or of a later key set, unless its bytes are those of a genuine one.

Options:
  --runs N    how many, 1 to 100000000 (default: 100000)
  --seed S    a whole number below 2^32 (default: 1); the same seed makes the same payloads
  --index I   repeat one run of a seed alone, and show its payload and verdict
  --json      one JSON object on standard output
  --help

Exit status: 0 nothing found, 1 a crash, a false accept or a false refusal, 64 usage.
`;

const { parse, usage } = commandLineOf(() => 'npm run fuzz -- --help');

interface Request {
  runs: number;
  seed: number;
  index: number | undefined;
  json: boolean;
}

const batchRuns = 1000;
const maxRuns = 100_000_000;
const shownFindings = 10;

/** Parses the arguments; undefined is help. Throws UpdateError `usage`. */
function parseRequest(args: string[]): Request | undefined {
  const values = parseOptions(args);
  if (values.help === true) return undefined;
  const { runs = '100000', seed = '1', index, json = false } = values;
  return {
    runs: parseNumber('--runs', runs, 1, maxRuns),
    seed: parseNumber('--seed', seed, 0, 2 ** 32 - 1),
    index: index === undefined ? undefined : parseNumber('--index', index, 0, maxRuns - 1),
    json,
  };
}

function parseOptions(args: string[]) {
  return parse({
    args,
    options: {
      runs: { type: 'string' },
      seed: { type: 'string' },
      index: { type: 'string' },
      json: { type: 'boolean' },
      help: { type: 'boolean', short: 'h' },
    },
  }).values;
}

function parseNumber(option: string, text: string, min: number, max: number): number {
  const value = Number(text);
  if (/^\d{1,10}$/.test(text) && value >= min && value <= max) return value;
  throw usage(`${option} must be a whole number from ${min} to ${max}`);
}

/** Shares the runs out among as many processes as there are processors. */
async function runAll({ runs, seed }: Request): Promise<BatchResult & { seconds: number }> {
  const total: BatchResult = { counts: {}, findings: [] };
  const showProgress = progressBar('fuzzing', { name: 'runs', size: 1, min: 1 });
  let next = 0;
  let done = 0;
  const takeBatch = (): Batch | undefined => {
    if (next >= runs) return undefined;
    const from = next;
    next = Math.min(runs, from + batchRuns);
    return { from, to: next };
  };
  const start = performance.now();
  const workers = Math.min(availableParallelism(), Math.ceil(runs / batchRuns));
  const work = async (): Promise<void> => {
    // A process, since tsx does not follow into threads; it inherits tsx's options to Node.
    const worker = fork(join(import.meta.dirname, 'worker.ts'), [String(seed)]);
    try {
      for (let batch = takeBatch(); batch !== undefined; batch = takeBatch()) {
        const { counts, findings } = await answer(worker, batch);
        for (const [key, count] of Object.entries(counts))
          total.counts[key] = (total.counts[key] ?? 0) + count;
        total.findings.push(...findings);
        done += batch.to - batch.from;
        showProgress?.(done, runs);
      }
    } finally {
      worker.disconnect();
    }
  };
  await Promise.all(Array.from({ length: workers }, work));
  total.findings.sort((a, b) => a.index - b.index);
  return { ...total, seconds: (performance.now() - start) / 1000 };
}

function answer(worker: ChildProcess, batch: Batch): Promise<BatchResult> {
  return new Promise((resolve, reject) => {
    const onExit = (status: number | null): void => {
      reject(new Error(`a worker ended with exit status ${String(status)}`));
    };
    worker.once('exit', onExit);
    worker.once('message', (result) => {
      worker.off('exit', onExit);
      resolve(result as BatchResult);
    });
    worker.send(batch);
  });
}

function printTable(counts: BatchResult['counts']): void {
  const verdicts = ['malformed', 'untrusted', 'try-later', 'genuine'] as const;
  const rows = mutations.map((mutation) => {
    const of = (verdict: string): number => counts[`${mutation}/${verdict}`] ?? 0;
    const faults = of('crash') + of('false accept') + of('false refusal');
    const refused = Object.fromEntries(verdicts.map((verdict) => [verdict, of(verdict)]));
    const runs = verdicts.reduce((sum, verdict) => sum + of(verdict), faults);
    return [mutation, { runs, ...refused, found: faults }] as const;
  });
  console.table(Object.fromEntries(rows));
}

function describeFinding(seed: number, finding: Finding): string {
  const { index, mutation, fault, detail, payload } = finding;
  const lines = [
    `fuzz: error: ${fault} after ${mutation}: ${detail || 'accepted'}`,
    `fuzz: payload in base64: ${payload}`,
    `fuzz: hint: repeat it with npm run fuzz -- --seed ${seed} --index ${index}`,
  ];
  return `${lines.join('\n')}\n`;
}

async function repeatOne(seed: number, index: number): Promise<boolean> {
  const { mutation, verdict, detail, payload } = await new Judge(seed).run(index);
  console.log(`mutation  ${mutation}\npayload   ${payload.toString('base64')} (base64)`);
  console.log(`verdict   ${verdict}${detail === '' ? '' : `: ${detail}`}`);
  return !isFault(verdict);
}

async function fuzz(request: Request): Promise<boolean> {
  const { runs, seed, json } = request;
  if (request.index !== undefined) return repeatOne(seed, request.index);
  const { counts, findings, seconds } = await runAll(request);
  const count = (fault: Fault): number => findings.filter((found) => found.fault === fault).length;
  const result = {
    runs,
    perSecond: Math.round(runs / seconds),
    crashes: count('crash'),
    falseAccepts: count('false accept'),
    falseRefusals: count('false refusal'),
    seed,
  };
  for (const finding of findings.slice(0, shownFindings))
    process.stderr.write(describeFinding(seed, finding));
  if (json) {
    console.log(JSON.stringify(result));
  } else {
    printTable(counts);
    console.log(
      `${runs} runs with seed ${seed}, ${result.perSecond} a second: ${result.crashes} crashes, ` +
        `${result.falseAccepts} false accepts, ${result.falseRefusals} false refusals`,
    );
  }
  return findings.length === 0;
}

try {
  const request = parseRequest(process.argv.slice(2));
  if (request === undefined) process.stdout.write(help);
  else if (!(await fuzz(request))) process.exitCode = 1;
} catch (error) {
  process.stderr.write(formatError('fuzz', error));
  process.exitCode = exitStatus(error);
}
