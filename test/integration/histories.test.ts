import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { describeError } from '../../lib/errors.ts';
import { follow } from './follow-history.ts';
import { history, tell } from '../support/history/history.ts';

/** `npm run crash -- --part histories` has a thousand. */
const numRuns = Number(process.env['HISTORIES'] ?? 100);
const seed = Number(process.env['HISTORIES_SEED'] ?? 20261123);

describe('a node', () => {
  it(`ends at the newest meant for it in ${numRuns} random histories (seed ${seed})`, async () => {
    const result = await fc.check(fc.asyncProperty(history, follow), { numRuns, seed });
    const [told] = result.counterexample ?? [];
    // The shrunk history, in words.
    const failure = told && `${tell(told)}${describeError(result.errorInstance)}`;
    expect(failure).toBeUndefined();
  });
});
