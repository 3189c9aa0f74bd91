/** What must not happen, whatever is killed or fails, at whatever instant (design: durability). */
export const invariants = ['lost', 'doubleApplied', 'unverifiedApplied', 'notConverged'] as const;
export type Invariant = (typeof invariants)[number];

/** One invariant that broke, with what it takes to see it again. */
export interface CrashFailure {
  invariant: Invariant;
  /** The name of the point, as `--only` takes it (with the same seed). */
  point: string;
  /** For a person: what was expected, and what was found. */
  detail: string;
}

/** What every part of the harness is told. */
export interface CrashOptions {
  /** A seeded sample that takes some seconds, instead of all. */
  short: boolean;
  /** A whole number below 2^32; the same seed makes the same choices. */
  seed: number;
  /** Only points whose name contains this. */
  only: string | undefined;
  /** Told of what is done and how much there is in all; undefined where nobody looks. */
  onProgress: ((done: number, total: number) => void) | undefined;
  /** Told of each failure at once: a run is long. */
  onFailure?: (failure: CrashFailure) => void;
}

/** What one part of the harness found. Not a single failure is acceptable. */
export interface CrashResult {
  /** How many interruptions really took place; one that missed its instant is none. */
  count: number;
  /** Lines for the table of a person: a label, and figures by name. */
  rows: { label: string; figures: Record<string, number> }[];
  failures: CrashFailure[];
}

/** How often each invariant broke, over all parts. */
export function countFailures(failures: readonly CrashFailure[]): Record<Invariant, number> {
  const counts = { lost: 0, doubleApplied: 0, unverifiedApplied: 0, notConverged: 0 };
  for (const { invariant } of failures) counts[invariant] += 1;
  return counts;
}
