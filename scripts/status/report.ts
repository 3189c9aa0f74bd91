import { type ChannelRow, type FleetStatus, verdictStatuses } from '../../lib/query/judge-fleet.ts';
import type { CurrentUpdate } from '../../lib/query/node-summary.ts';
import { isoTime } from '../../lib/system/iso-time.ts';
import { asciiOnly } from '../../lib/system/printable.ts';
import { commandHint } from '../../lib/command-hint.ts';
import { asciiJson } from '../cli/output.ts';

/** A fleet's status at a moment, and the limit by which it is stale. */
export interface Report extends FleetStatus {
  /** The fleet id. */
  fleet: string;
  /** Unix seconds. */
  at: number;
  staleAfterSeconds: number | null;
}

const maxProblems = 10;

/** The object of --json, whose shape is documented (docs/status.md); ASCII, one line. */
export function statusJson(report: Report): string {
  const { fleet, at, verdict, newestCreated, isStale, staleAfterSeconds, nodes } = report;
  const value = {
    fleet,
    at: isoTime(at),
    verdict,
    exitStatus: verdictStatuses[verdict],
    newestAnnouncement: newestCreated === null ? null : isoTime(newestCreated),
    isStale,
    staleAfterSeconds,
    nodes: nodes.map(({ name, member, facts, verdict: nodeVerdict, why, channels }) => ({
      name,
      member,
      answered: facts !== null,
      verdict: nodeVerdict,
      why,
      software: facts?.software ?? null,
      keySetEpoch: facts?.epoch ?? null,
      newestAnnouncement:
        facts?.newestCreated === undefined || facts.newestCreated === null
          ? null
          : isoTime(facts.newestCreated),
      channels: channels.map(channelJson),
    })),
  };
  return asciiJson(value);
}

function channelJson(row: ChannelRow) {
  const { channel, newest, equivocation, lastApplied, current, verdict, why } = row;
  return {
    channel,
    verdict,
    why,
    newest,
    version: current?.version ?? null,
    state: current?.state ?? null,
    since: current === null ? null : isoTime(current.since),
    reason: current?.reason ?? null,
    run: current?.run ?? null,
    lastApplied: lastApplied === 0 ? null : lastApplied,
    equivocation,
  };
}

/** The lines of the report: a header, the problems, and a table of every node and channel; all ASCII. */
export function statusLines(report: Report): string[] {
  return [...headerLines(report), '', ...tableLines(report)].map(asciiOnly);
}

function headerLines(report: Report): string[] {
  const { fleet, at, verdict, newestCreated, nodes, staleAfterSeconds, isStale } = report;
  const answers = nodes.filter(({ facts }) => facts !== null).length;
  const newest = newestCreated === null ? 'none' : `${age(at - newestCreated)} ago`;
  const limit = staleAfterSeconds === null ? '' : `, stale after ${age(staleAfterSeconds)}`;
  const problems = nodes.flatMap((node) => {
    const rows = node.channels.filter((row) => row.verdict !== 'converged');
    const own = rows.some(({ why }) => why === node.why) ? [] : [[node.name, node] as const];
    const each = rows.map((row) => [`${node.name} ${row.channel}`, row] as const);
    return [...own, ...each].filter(([, { verdict: is }]) => is !== 'converged');
  });
  const equivocations = nodes.flatMap(({ name, channels }) =>
    channels
      .filter(({ equivocation }) => equivocation !== 'none')
      .map(({ channel, equivocation }) =>
        equivocation === 'seen' ? `${channel} on ${name}` : `${channel} on ${name} (unknown)`,
      ),
  );
  return [
    `fleet ${fleet}: ${verdict}`,
    `  answers              ${answers} of ${nodes.length} nodes`,
    `  software             ${softwareText(report)}`,
    `  newest announcement  ${newest}${isStale ? limit : ''}`,
    ...(equivocations.length > 0 ? [`  EQUIVOCATION         ${equivocations.join(', ')}`] : []),
    ...problems
      .slice(0, maxProblems)
      .map(([where, { verdict: is, why }]) => `  ${is.padEnd(9)}            ${where}: ${why}`),
    ...(nodes.some(({ member }) => member !== 'alive')
      ? [`  gone for good?       ${commandHint('retire', 'NODE')}`]
      : []),
    ...(problems.length > maxProblems ? [`  and ${problems.length - maxProblems} more`] : []),
  ];
}

function softwareText({ nodes }: Report): string {
  const counts = new Map<string, number>();
  for (const { facts } of nodes)
    if (facts !== null) counts.set(facts.software, (counts.get(facts.software) ?? 0) + 1);
  if (counts.size <= 1) return [...counts.keys()].join('') || 'unknown';
  return [...counts].map(([version, count]) => `${version} on ${count}`).join(', ');
}

function tableLines({ nodes, at }: Report): string[] {
  const rows = nodes.flatMap(({ name, facts, why, channels }) => {
    if (facts === null) return [[name, '-', '-', '-', '-', why]];
    if (channels.length === 0) return [[name, '-', '-', '-', '-', 'no updates yet']];
    return channels.map((row) => [name, ...channelCells(row, at)]);
  });
  const table = [['NODE', 'CHANNEL', 'VERSION', 'STATE', 'AGE', 'LAST RESULT'], ...rows];
  const widths = [0, 1, 2, 3, 4].map((column) =>
    Math.max(...table.map((row) => row[column]?.length ?? 0)),
  );
  return table.map((row) =>
    row
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd(),
  );
}

function channelCells(row: ChannelRow, at: number): string[] {
  const { channel, newest, current, lastApplied, verdict, why } = row;
  if (current === null) {
    const reason = verdict === 'converged' ? 'not a target' : why;
    return [channel, newest === 0 ? '-' : String(newest), '-', '-', reason];
  }
  const { version, state, since } = current;
  const results = [resultText(current)];
  if (why !== '' && why !== current.reason) results.push(why);
  if (lastApplied !== 0 && lastApplied !== version) results.push(`before: ${lastApplied}`);
  return [channel, String(version), state, age(at - since), results.join('; ')];
}

function resultText({ run, reason, state }: CurrentUpdate): string {
  if (run === null) return reason;
  const { exitCode, changed, failed } = run;
  const counts = [
    ...(exitCode === null ? [] : [`exit ${exitCode}`]),
    ...(changed === null ? [] : [`${changed} changed`]),
    ...(failed === null ? [] : [`${failed} failed`]),
  ].join(', ');
  return state === 'APPLIED' || reason === '' ? counts || 'applied' : `${reason} (${counts})`;
}

/** A span of seconds in its largest unit; one below 0, from a clock that is ahead, counts as 0. */
export function age(seconds: number): string {
  const span = Math.max(0, seconds);
  if (span < 120) return `${span} s`;
  if (span < 7200) return `${Math.floor(span / 60)} min`;
  if (span < 172_800) return `${Math.floor(span / 3600)} h`;
  return `${Math.floor(span / 86_400)} d`;
}
