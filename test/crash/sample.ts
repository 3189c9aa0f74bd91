import { createHash } from 'node:crypto';

/** Chooses at random, and from the same seed the same again; keeps the order. */
export function sampler(seed: string): <T>(items: readonly T[], count: number) => T[] {
  return (items, count) =>
    items
      .map((item, index) => ({
        item,
        index,
        rank: createHash('sha256').update(`${seed} ${index}`).digest('hex'),
      }))
      .sort((a, b) => (a.rank < b.rank ? -1 : 1))
      .slice(0, count)
      .sort((a, b) => a.index - b.index)
      .map(({ item }) => item);
}
