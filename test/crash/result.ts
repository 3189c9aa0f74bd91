/** Faults that no kill or error at any instant may cause (docs/reliability.md). */
export const invariants = ['lost', 'doubleApplied', 'unverifiedApplied', 'notConverged'] as const;
export type Invariant = (typeof invariants)[number];

/** One broken invariant, with the point that shows it again. */
export interface CrashFailure {
  invariant: Invariant;
  /** The name of the point, as `--only` takes it (with the same seed). */
  point: string;
  /** Expectation and finding, for a person. */
  detail: string;
}

/** Options of every part of the harness. */
export interface CrashOptions {
  /** A seeded sample that takes some seconds, instead of all. */
  short: boolean;
  /** A whole number below 2^32; the same seed makes the same choices. */
  seed: number;
  /** Only points whose name contains this. */
  only: string | undefined;
  /** Receives the progress; undefined without a terminal. */
  onProgress: ((done: number, total: number) => void) | undefined;
  /** Receives each failure at once, since a run is long. */
  onFailure?: (failure: CrashFailure) => void;
}

/** Result of one part of the harness. Not a single failure is acceptable. */
export interface CrashResult {
  /** Number of interruptions that took place, without those that missed their instant. */
  count: number;
  /** Lines for the table of a person: a label, and figures by name. */
  rows: { label: string; figures: Record<string, number> }[];
  failures: CrashFailure[];
}

/** Counts the failures of each invariant, over all parts. */
export function countFailures(failures: readonly CrashFailure[]): Record<Invariant, number> {
  const counts = { lost: 0, doubleApplied: 0, unverifiedApplied: 0, notConverged: 0 };
  for (const { invariant } of failures) counts[invariant] += 1;
  return counts;
}
