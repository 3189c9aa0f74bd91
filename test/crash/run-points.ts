import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { advanceCases } from './advance-cases.ts';
import { applyCases } from './apply-cases.ts';
import type { CrashCase } from './cases.ts';
import { handlerCases } from './handler-cases.ts';
import { makeLane, type Lane, type Scene } from './lane.ts';
import type { CrashFailure, CrashOptions, CrashResult } from './result.ts';
import { sampler } from './sample.ts';
import { findPoints, runTraced, type Injection, type Point } from './strace.ts';
import { isRequest } from './trace.ts';
import { tryPoint } from './try-point.ts';

/** Slow cases begin first, so that little is left for one lane alone. */
export const crashCases: CrashCase[] = [...applyCases, ...advanceCases, ...handlerCases];

/** Points of one program in a shortened run: interrupted, and failing. */
const shortPoints = { kills: 1, errors: 1 };
const errors = ['ENOSPC', 'EIO', 'EROFS'] as const;
/** Error of a request to the daemon on this machine: it has just gone. */
const requestErrors = ['ECONNRESET'] as const;

export interface PointsOptions extends CrashOptions {
  /** Empty, on a tmpfs. */
  directory: string;
  /** The built programs, which must not be rebuilt meanwhile. */
  dist: string;
  /** Number of programs that run at once. */
  lanes: number;
  /** Receives the result of each case. */
  onCase?: (name: string, figures: Record<string, number>) => void;
}

/** Results of the two kinds of points. */
export interface PointsResult {
  kills: CrashResult;
  errors: CrashResult;
  /** Points that no run met: they count for nothing, and there should be none. */
  missed: string[];
  /** Interrupted runs that were run again, before any APPLIED was durable. */
  ranAgain: number;
}

/**
 * Interrupts every program at every state-changing call: once by SIGKILL, once by each error.
 */
export async function runPoints(options: PointsOptions): Promise<PointsResult> {
  const total: PointsResult = {
    kills: { count: 0, rows: [], failures: [] },
    errors: { count: 0, rows: [], failures: [] },
    missed: [],
    ranAgain: 0,
  };
  const queue = crashCases
    .filter(({ name }) => mayMatch(name, options.only))
    .filter((each) => !options.short || isInShort(each, options.seed));
  const tried = new Set<string>();
  const progress = { done: 0, total: queue.length };
  const work = async (lane: Lane): Promise<void> => {
    try {
      for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
        await runCase(lane, next, options, total, tried).catch((cause: unknown) => {
          throw new Error(`cannot run the case ${next.name}`, { cause });
        });
        progress.done += 1;
        options.onProgress?.(progress.done, progress.total);
      }
    } finally {
      lane.end();
    }
  };
  mkdirSync(options.directory, { recursive: true });
  const lanes = Array.from({ length: options.lanes }, (_, index) =>
    makeLane(join(options.directory, `lane-${index + 1}`), options.dist),
  );
  await Promise.all(lanes.map(work));
  return total;
}

/** Selects every second case of each program for a shortened run, by the seed. */
function isInShort({ name, fullOnly }: CrashCase, seed: number): boolean {
  const programOf = (text: string): string => text.replace(/:.*/, '');
  const others = crashCases.filter((each) => programOf(each.name) === programOf(name));
  const index = others.findIndex((each) => each.name === name);
  return fullOnly !== true && (others.length === 1 || index % 2 === seed % 2);
}

/** Whether a case may have points that `--only` names: part of the case's name, or a point's whole one. */
function mayMatch(name: string, only: string | undefined): boolean {
  return only === undefined || name.includes(only) || only.startsWith(`${name}/`);
}

async function runCase(
  lane: Lane,
  crashCase: CrashCase,
  options: PointsOptions,
  total: PointsResult,
  tried: Set<string>,
): Promise<void> {
  const scene = await lane.begin(crashCase);
  const points = await tracePoints(scene, crashCase.name);
  const { program } = scene.prepared;
  const figures = { points: 0, errorPoints: 0, ranAgain: 0, missed: 0 };
  for (const [point, injection] of choose(points, crashCase, program, options, tried)) {
    const trial = await tryPoint(scene, point, injection);
    const name = `${point.name} ${injection}`;
    if (trial === undefined) {
      figures.missed += 1;
      total.missed.push(name);
      continue;
    }
    const isKill = injection === 'SIGKILL';
    figures[isKill ? 'points' : 'errorPoints'] += 1;
    if (trial.wasRunAgain) figures.ranAgain += 1;
    const { failures } = isKill ? total.kills : total.errors;
    const found = trial.found.map((each): CrashFailure => ({ ...each, point: name }));
    failures.push(...found);
    for (const failure of found) options.onFailure?.(failure);
  }
  total.kills.count += figures.points;
  total.errors.count += figures.errorPoints;
  total.ranAgain += figures.ranAgain;
  total.kills.rows.push({ label: crashCase.name, figures });
  options.onCase?.(crashCase.name, figures);
}

/** Runs the program once without interruption, which must do its work, and lists its calls. */
async function tracePoints(scene: Scene, name: string): Promise<Point[]> {
  await scene.restore();
  const { calls, status } = await runTraced(scene.program, scene.trace);
  scene.usualStatus = status;
  return findPoints(name, calls, scene.program.directory);
}

/**
 * Lists the injections to try, in order. Every call is met by SIGKILL. An error comes at the same place
 * of a program once, since its consequence does not depend on the other work of the program.
 *
 * @param tried the places so far, to which these are added
 */
function choose(
  points: readonly Point[],
  { name, maxPoints }: CrashCase,
  program: string,
  { short, seed, only }: CrashOptions,
  tried: Set<string>,
): [Point, Injection][] {
  const sample = sampler(`${seed} ${name}`);
  const kills = points.map((point): [Point, Injection] => [point, 'SIGKILL']);
  // Slow, and another case has the same calls.
  if (maxPoints !== undefined) return sample(kills, short ? shortPoints.kills : maxPoints);
  const failing = points.flatMap((point) =>
    (isRequest(point.call) ? requestErrors : errors).map((error): [Point, Injection] => [
      point,
      error,
    ]),
  );
  if (short) return [...sample(kills, shortPoints.kills), ...sample(failing, shortPoints.errors)];
  const all = [...kills, ...failing];
  if (only !== undefined)
    return all.filter(([point, injection]) => `${point.name} ${injection}`.includes(only));
  const fresh = failing.filter(([{ key, occurrence }, error]) => {
    const place = [program, key, occurrence, error].join(' ');
    if (tried.has(place)) return false;
    tried.add(place);
    return true;
  });
  return [...kills, ...fresh];
}
