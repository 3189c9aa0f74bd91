import { setTimeout as sleep } from 'node:timers/promises';
import { nameOf, type Update, type UpdateId } from '../../lib/announcement/update.ts';
import type { SerfClient } from '../../lib/daemons/serf/client.ts';
import { commandHint } from '../../lib/command-hint.ts';
import { UpdateError } from '../../lib/errors.ts';
import { askMembers } from '../../lib/query/ask-fleet.ts';
import {
  judgeUpdate,
  type NodeProgress,
  type UpdateProgress,
} from '../../lib/query/judge-update.ts';
import { parseStatus, type UpdateStatus } from '../../lib/query/update-status.ts';
import { asciiOnly } from '../../lib/system/printable.ts';

/** Failures in a row: an agent that is restarted is back sooner. */
const maxFailures = 5;
const failurePauseMs = 1000;
/** A pause of a twentieth of the time so far: a long wait must not keep a large fleet busy. */
const pauseShare = 20;
const maxPauseMs = 10_000;
const maxNamed = 5;

/**
 * Asks the fleet until no member that is alive is waited for any more, or until `timeoutMs` have passed.
 * The answers of members are for the report alone: no node acts on them.
 *
 * @param onProgress receives how many of the known targets have ended, and how many there are
 * @throws UpdateError `unavailable` when Serf is down for longer than a restart takes
 */
export async function followUpdate(
  update: Pick<Update, 'channel' | 'version' | 'target'>,
  serf: Pick<SerfClient, 'query' | 'members'>,
  timeoutMs: number,
  onProgress?: (done: number, total: number) => void,
): Promise<UpdateProgress> {
  const begin = performance.now();
  const statuses = new Map<string, UpdateStatus>();
  const waitedFor = ({ nodes }: UpdateProgress): string[] =>
    nodes.filter(({ outcome }) => outcome === 'waiting').map(({ name }) => name);
  let known: UpdateProgress | undefined;
  for (let failures = 0; ;) {
    try {
      const members = await serf.members();
      known = judgeUpdate(update, members, statuses);
      const waiting = new Set(waitedFor(known));
      const alive = members.filter(({ name, status }) => status === 'alive' && waiting.has(name));
      const answers = await askMembers(
        serf,
        nameOf(update),
        alive.map(({ name }) => name),
      );
      for (const [name, answer] of answers) {
        const status = parseStatus(answer);
        if (status !== undefined) statuses.set(name, status);
      }
      known = judgeUpdate(update, members, statuses);
      failures = 0;
    } catch (error) {
      failures += 1;
      const isBrief = error instanceof UpdateError && error.code === 'unavailable';
      if (!isBrief || failures === maxFailures) throw error;
      await sleep(failurePauseMs);
    }
    if (known !== undefined) {
      const total = known.nodes.filter(({ outcome }) => outcome !== 'not a target').length;
      onProgress?.(total - waitedFor(known).length, total);
    }
    const elapsedMs = performance.now() - begin;
    if (known !== undefined && (known.isOver || elapsedMs > timeoutMs)) return known;
    await sleep(Math.min(maxPauseMs, elapsedMs / pauseShare));
  }
}

/**
 * Explains which nodes keep an update from having converged.
 *
 * @returns undefined when it has converged
 */
export function explainUnfinished(
  update: UpdateId,
  { verdict, nodes }: UpdateProgress,
): { message: string; hint: string } | undefined {
  if (verdict === 'converged') return undefined;
  const wanted = verdict === 'failed' ? 'failed' : 'waiting';
  const open = nodes.filter(({ outcome }) => outcome === wanted);
  const absent = open.find(({ member }) => member !== 'alive');
  const shown = open.slice(0, maxNamed).map((node) => `${node.name} (${describeNode(node)})`);
  const more = open.length > maxNamed ? ` and ${open.length - maxNamed} more` : '';
  const where = asciiOnly(`${shown.join(', ')}${more}`);
  return verdict === 'failed'
    ? {
        message: `${nameOf(update)} is not applied on ${where}`,
        hint: `the run log is in "applyDir"/runs of that node; its state: ${commandHint('status')}`,
      }
    : {
        message: `${nameOf(update)} is not applied yet on ${where}`,
        hint:
          absent === undefined
            ? `nothing is lost, nodes go on by themselves; to see their progress: ${commandHint('status')}`
            : `nothing is lost, nodes go on when they are back; a node that is gone for good: ${commandHint('retire', absent.name)}`,
      };
}

/** A line for each node, and below it the resources that a noop would change there; all ASCII. */
export function formatNodes(nodes: readonly NodeProgress[]): string {
  const width = Math.max(...nodes.map(({ name }) => name.length), 4);
  const lines = nodes.flatMap(({ name, state, reason, wouldChange = [], more = 0 }) => [
    `${name.padEnd(width)}  ${describeNode({ state, reason })}`,
    ...wouldChange.map((path) => `${' '.repeat(width)}    ${path}`),
    ...(more > 0 ? [`${' '.repeat(width)}    and ${more} more, in the node's run log`] : []),
  ]);
  return lines.map((line) => `${asciiOnly(line)}\n`).join('');
}

function describeNode({ state, reason }: Pick<NodeProgress, 'state' | 'reason'>): string {
  return state === 'APPLIED' || state === null ? reason : `${state}: ${reason}`;
}
