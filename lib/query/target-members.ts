import type { UpdateError } from '../errors.ts';
import type { SerfClient } from '../daemons/serf/client.ts';
import { matchesTarget } from '../announcement/target.ts';

/** How many of the alive members that Serf knows a target matches. */
export interface TargetedMembers {
  matching: number;
  members: number;
}

/**
 * Counts the members that a target matches by what Serf says of them. Nodes decide by their own,
 * root-owned name and tags, so this is advice for the operator only.
 *
 * @param target checked already
 * @returns null when Serf cannot be asked
 */
export async function countTargets(
  target: string,
  channel: string,
  serf: Pick<SerfClient, 'members'>,
): Promise<TargetedMembers | null> {
  try {
    const alive = (await serf.members()).filter(({ status }) => status === 'alive');
    const matching = alive.filter((member) => matchesTarget(target, channel, member));
    return { matching: matching.length, members: alive.length };
  } catch {
    return null;
  }
}

/**
 * The error for a target with its text below the message and a caret under the column that it names.
 */
export function pointAtColumn(target: string, { message }: UpdateError): string {
  const column = Number(/\bcolumn (\d+)/.exec(message)?.[1]);
  if (!Number.isInteger(column)) return message;
  // What a terminal could obey is not shown; every character keeps its column.
  const shown = target.replace(/[^ -~]/g, '?');
  return `${message}\n  ${shown}\n  ${' '.repeat(column - 1)}^`;
}
