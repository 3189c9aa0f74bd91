import { nameOf, type UpdateId } from '../../lib/announcement/update.ts';
import type { Announced, AnnouncedUpdates } from '../../lib/query/announced.ts';
import { type ChannelRow, type NodeRow, worstFirst } from '../../lib/query/judge-fleet.ts';

/** Nodes of one state among those that an update is meant for. */
export interface StateCount {
  /** `behind`: it has not heard of the update. */
  state: string;
  count: number;
}

/** One update of a channel that is in effect on some node, as the fleet has it. */
export interface UpdateSummary extends UpdateId {
  /** undefined: its announcement is not to be had. */
  announced: Announced | undefined;
  /** Nodes that it is meant for, and those of them that are done with it. */
  targets: number;
  done: number;
  /** The other ones, the worst state first. */
  others: StateCount[];
}

/**
 * Sums up the updates that are in effect: of each channel the newest, and older ones which newer ones with
 * a target leave to other nodes. By channel, the newest first.
 */
export function summarizeUpdates(
  nodes: readonly Pick<NodeRow, 'channels'>[],
  announced: AnnouncedUpdates,
): UpdateSummary[] {
  const channels = new Map<string, ChannelRow[]>();
  for (const row of nodes.flatMap((node) => node.channels)) {
    const rows = channels.get(row.channel);
    if (rows === undefined) channels.set(row.channel, [row]);
    else rows.push(row);
  }
  return [...channels]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .flatMap(([channel, rows]) => summarizeChannel(channel, rows, announced));
}

function summarizeChannel(
  channel: string,
  rows: readonly ChannelRow[],
  announced: AnnouncedUpdates,
): UpdateSummary[] {
  const newest = rows.reduce(
    (most, row) => Math.max(most, row.newest, row.current?.version ?? 0),
    0,
  );
  if (newest === 0) return [];
  const older = rows.flatMap((row) => row.current?.version ?? []).sort((a, b) => b - a);
  const summaries: UpdateSummary[] = [];
  for (const version of new Set([newest, ...older])) {
    const above = summaries.at(-1);
    // Unknown, or for all nodes: it supersedes everything below it.
    if (above !== undefined && (above.announced?.target ?? '') === '') break;
    const behind = version === newest ? rows.filter((row) => isBehind(row, newest)) : [];
    const own = rows.filter((row) => row.current?.version === version && !behind.includes(row));
    summaries.push({
      ...{ channel, version, announced: announced.get(nameOf({ channel, version })) },
      ...{ targets: own.length + behind.length, done: own.filter(isDone).length },
      others: countStates([...own.filter((row) => !isDone(row)), ...behind], newest),
    });
  }
  return summaries;
}

function isBehind(row: ChannelRow, newest: number): boolean {
  return row.verdict !== 'converged' && row.newest < newest;
}

function isDone({ verdict }: ChannelRow): boolean {
  return verdict === 'converged';
}

function countStates(rows: readonly ChannelRow[], newest: number): StateCount[] {
  const worst = [...rows].sort(
    (a, b) => worstFirst.indexOf(a.verdict) - worstFirst.indexOf(b.verdict),
  );
  const counts = new Map<string, number>();
  for (const row of worst) {
    const state = isBehind(row, newest) ? 'behind' : (row.current?.state ?? 'behind');
    counts.set(state, (counts.get(state) ?? 0) + 1);
  }
  return [...counts].map(([state, count]) => ({ state, count }));
}
