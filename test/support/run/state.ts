import { readTree } from './tree.ts';

/** All of a state directory but events.log, to show that a refusal changed nothing. */
export function readState(stateDir: string): Record<string, string> {
  const entries = Object.entries(readTree(stateDir));
  return Object.fromEntries(entries.filter(([path]) => path !== 'events.log'));
}
