import { closest, distance } from 'fastest-levenshtein';

/** Share of a word's characters that may be mistyped. */
const share = 0.4;

/**
 * The known word that was most likely meant: the only one that begins so, or else the nearest one.
 *
 * @returns undefined when none is like it
 */
export function nearest(word: string, known: readonly string[]): string | undefined {
  if (known.length === 0) return undefined;
  const bare = word.replace(/^-+/, '');
  const begun = known.filter((each) => each.replace(/^-+/, '').startsWith(bare));
  if (bare.length > 1 && begun.length === 1) return begun[0];
  const found = closest(word, known);
  return distance(word, found) <= Math.ceil(bare.length * share) ? found : undefined;
}
