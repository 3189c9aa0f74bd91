import type { Config } from '../lib/config.ts';
import { parseStatus, type UpdateStatus } from '../lib/node-status.ts';
import { connectSerf } from '../lib/serf.ts';
import { nameOf, type UpdateId } from '../lib/update.ts';

/** What one member says of a noop. */
export interface NodeReport extends Partial<UpdateStatus> {
  name: string;
}

/** A download by magnet, three tries of Puppet's first seconds, and some patience. */
const patienceMs = 120_000;
const querySeconds = 2;
const ended = new Set([
  ...['APPLIED', 'FAILED', 'POISONED', 'REJECTED', 'EXPIRED', 'SUPERSEDED', 'WITHDRAWN', 'OTHER'],
]);

/**
 * Asks the fleet until every alive member has run the noop, is no target, or has failed, or until two
 * minutes are over. What a member says is for people: nothing is decided by it.
 *
 * @param onProgress told how many of the members have ended
 */
export async function collectNoop(
  id: UpdateId,
  { serf }: Config,
  onProgress?: (done: number, total: number) => void,
): Promise<NodeReport[]> {
  const client = connectSerf({ ...serf, timeoutMs: serf.timeoutSeconds * 1000 });
  const deadline = Date.now() + patienceMs;
  const known = new Map<string, UpdateStatus>();
  for (;;) {
    const responses = await client.query('update-status', nameOf(id), querySeconds);
    for (const [name, response] of responses) {
      const status = parseStatus(response);
      if (status !== undefined) known.set(name, status);
    }
    const members = (await client.members()).filter(({ status }) => status === 'alive');
    const isEnded = (name: string): boolean => ended.has(known.get(name)?.state ?? '');
    const done = members.filter(({ name }) => isEnded(name)).length;
    onProgress?.(done, members.length);
    if (done === members.length || Date.now() > deadline)
      return members.map(({ name }) => ({ name, ...known.get(name) }));
  }
}

/** A line for each node, and below it what would change there. */
export function formatNoop(reports: readonly NodeReport[]): string {
  const width = Math.max(...reports.map(({ name }) => name.length), 4);
  const lines = reports.flatMap(({ name, state, reason, wouldChange = [], more = 0 }) => [
    `${name.padEnd(width)}  ${state === 'APPLIED' ? '' : `${state ?? 'no answer'}: `}${reason ?? ''}`,
    ...wouldChange.map((path) => `${' '.repeat(width)}    ${path}`),
    ...(more > 0 ? [`${' '.repeat(width)}    and ${more} more, in the node's run log`] : []),
  ]);
  return `${lines.join('\n')}\n`;
}
