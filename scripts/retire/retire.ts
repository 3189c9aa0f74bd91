import { setTimeout as sleep } from 'node:timers/promises';
import { commandHint } from '../../lib/command-hint.ts';
import type { SerfClient } from '../../lib/daemons/serf/client.ts';
import { UpdateError } from '../../lib/errors.ts';
import { presenceOf } from '../../lib/query/judge-fleet.ts';
import { asciiOnly } from '../../lib/system/printable.ts';
import { UnknownWordError } from '../cli/command-line.ts';
import { print, printJson } from '../cli/output.ts';
import type { RetireRequest } from './arguments.ts';

/** Time in which the local agent forgets a member that it has pruned. */
const pruneMs = 10_000;
const pollMs = 200;

/**
 * Retires members that are not alive. All names are checked before the first one is retired.
 *
 * @throws UpdateError `usage` for an unknown name, `refused` for a member that is alive, `try-later` when
 *   the agent still lists one, `unavailable` when Serf is down
 */
export async function retireNodes(
  serf: Pick<SerfClient, 'members' | 'prune'>,
  { names, json }: RetireRequest,
): Promise<void> {
  const members = await serf.members();
  for (const name of names) {
    const member = members.find((each) => each.name === name);
    if (member === undefined)
      throw new UnknownWordError(`there is no member ${JSON.stringify(asciiOnly(name))}`, {
        hint: `names of members: ${commandHint('status')}`,
        word: name,
        known: members.map((each) => each.name),
      });
    if (presenceOf(member) === 'alive')
      throw new UpdateError('refused', `${asciiOnly(name)} is alive, and would be back at once`, {
        hint: 'stop Serf there first: systemctl disable --now serf',
      });
  }
  for (const name of names) {
    await serf.prune(name);
    const deadline = performance.now() + pruneMs;
    while ((await serf.members()).some((each) => each.name === name)) {
      if (performance.now() > deadline)
        throw new UpdateError('try-later', `${asciiOnly(name)} is still on the list of Serf`, {
          hint: `is it back? ${commandHint('status')}; then: ${commandHint('retire', name)}`,
        });
      await sleep(pollMs);
    }
    if (!json) print(`retired ${asciiOnly(name)}\n`);
  }
  if (json) printJson({ retired: names });
}
