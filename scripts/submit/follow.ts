import { setTimeout as sleep } from 'node:timers/promises';
import { nameOf, type Update, type UpdateId } from '../../lib/announcement/update.ts';
import type { SerfClient } from '../../lib/daemons/serf/client.ts';
import { commandHint } from '../../lib/command-hint.ts';
import { UpdateError } from '../../lib/errors.ts';
import type { Member } from '../../lib/daemons/serf/members.ts';
import { askMembers, type TargetedMembers } from '../../lib/query/ask-fleet.ts';
import {
  judgeUpdate,
  type KnownMember,
  type NodeProgress,
  type UpdateProgress,
} from '../../lib/query/judge-update.ts';
import { parseStatus, type UpdateStatus } from '../../lib/query/update-status.ts';
import { isoTime } from '../../lib/system/iso-time.ts';
import { asciiOnly, printable } from '../../lib/system/printable.ts';
import { rateText } from '../cli/cells.ts';
import { nowSeconds } from '../cli/time.ts';

/** Failures in a row: an agent that is restarted is back sooner. */
const maxFailures = 5;
const failurePauseMs = 1000;
/** A pause of a twentieth of the time so far: a long wait must not keep a large fleet busy. */
const pauseShare = 20;
const maxPauseMs = 10_000;
const maxNamed = 5;

/**
 * Asks the fleet until no member that is alive is waited for any more, or until `timeoutMs` have passed. An
 * update with a time that is to come is waited for where that is sooner. Each member since the beginning is
 * named, heard or not. The answers of members are for the report alone: no node acts on them.
 *
 * @param targeted answers of before, by which members are no targets
 * @param onProgress receives how many of the known targets have ended, and how many there are
 * @throws UpdateError `unavailable` when Serf is down for longer than a restart takes
 */
export async function followUpdate(
  update: Pick<Update, 'channel' | 'version' | 'kind' | 'notBefore'>,
  serf: Pick<SerfClient, 'query' | 'members'>,
  timeoutMs: number,
  targeted: Pick<TargetedMembers, 'others'> | null = null,
  onProgress?: (done: number, total: number) => void,
): Promise<UpdateProgress> {
  const begin = performance.now();
  const isInTime = update.notBefore * 1000 <= Date.now() + timeoutMs;
  const isOther = { state: 'OTHER' as const, reason: 'not a target' };
  const statuses = new Map<string, UpdateStatus>(targeted?.others.map((name) => [name, isOther]));
  const everKnown = new Map<string, KnownMember>();
  const judge = (members: readonly Member[]): UpdateProgress => {
    for (const name of everKnown.keys()) everKnown.set(name, { name, status: 'gone' });
    for (const member of members) everKnown.set(member.name, member);
    return judgeUpdate(update, [...everKnown.values()], statuses, nowSeconds());
  };
  const waitedFor = ({ nodes }: UpdateProgress): string[] =>
    nodes
      .filter(({ outcome }) => outcome === 'waiting' || (outcome === 'scheduled' && isInTime))
      .map(({ name }) => name);
  let known: UpdateProgress | undefined;
  for (let failures = 0; ;) {
    try {
      const members = await serf.members();
      known = judge(members);
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
      known = judge(members);
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
    const isOver = known?.isOver === true && !(isInTime && known.verdict === 'scheduled');
    if (known !== undefined && (isOver || elapsedMs > timeoutMs)) return known;
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
  if (verdict === 'converged' || verdict === 'scheduled') return undefined;
  if (nodes.every(({ outcome }) => outcome === 'not a target'))
    return {
      message: `${nameOf(update)} is for no node: of ${nodes.length} none is its target`,
      hint: `each node decides by its own "nodeName" and "tags"; their names: ${commandHint('status', '--all')}`,
    };
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

/** A line for each target, and below it the resources that a noop would change there; all ASCII. */
export function formatNodes(nodes: readonly NodeProgress[]): string {
  const targets = nodes.filter(({ outcome }) => outcome !== 'not a target');
  const width = Math.max(...targets.map(({ name }) => name.length), 4);
  const lines = targets.flatMap(({ name, wouldChange = [], more = 0, ...node }) => [
    `${name.padEnd(width)}  ${describeNode(node)}`,
    ...wouldChange.map((path) => `${' '.repeat(width)}    ${path}`),
    ...(more > 0 ? [`${' '.repeat(width)}    and ${more} more, in the node's run log`] : []),
  ]);
  const others = nodes.length - targets.length;
  if (others > 0)
    lines.push(`${others} ${others === 1 ? 'node is no target' : 'nodes are no targets'}`);
  return lines.map((line) => `${asciiOnly(printable(line))}\n`).join('');
}

/** Says of a scheduled update that all is as it should be. */
export function describeScheduled({ nodes }: UpdateProgress, notBefore: number): string {
  const count = nodes.filter(({ outcome }) => outcome === 'scheduled').length;
  return `scheduled: on ${count} ${count === 1 ? 'node' : 'nodes'}, to be applied at ${isoTime(notBefore)}\n`;
}

function describeNode({
  state,
  reason,
  download,
}: Pick<NodeProgress, 'state' | 'reason' | 'download'>): string {
  if (state === 'APPLIED' || state === null) return reason;
  if (state === 'WAITING') return `${state} ${reason}`;
  return `${state}: ${download === undefined ? reason : rateText([download])}`;
}
