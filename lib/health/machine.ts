import { commandHint } from '../command-hint.ts';
import { type Check, checkOf } from './check.ts';

const { ok, fail, skipped } = checkOf('machine', 'machine');

/**
 * Judges whether this is the machine that was made a node, by fingerprints: a card that was copied has the
 * name, keys and state of another node.
 */
export function judgeMachine(recorded: string | null, actual: string | null): Check {
  if (recorded === null || actual === null)
    return skipped('there is no record of this machine yet');
  return recorded === actual
    ? ok('the one that was made a node')
    : fail(
        'set up as another machine: is this disk a copy? Then this node needs a name of its own, else say the old one again',
        commandHint('setup', '--node-name', 'NAME'),
      );
}
