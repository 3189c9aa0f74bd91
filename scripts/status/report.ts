import { nameOf } from '../../lib/announcement/update.ts';
import { commandHint } from '../../lib/command-hint.ts';
import type { AnnouncedUpdates } from '../../lib/query/announced.ts';
import {
  type ChannelRow,
  type FleetStatus,
  type NodeRow,
  verdictStatuses,
} from '../../lib/query/judge-fleet.ts';
import { isoTime } from '../../lib/system/iso-time.ts';
import { asciiJson } from '../cli/output.ts';
import { age, localTime } from '../cli/time.ts';
import { cell, cut, cutName, rateText, resultText } from '../cli/cells.ts';
import { summarizeUpdates, type UpdateSummary } from './channels.ts';
import { type Help, listProblems, type Problem } from './problems.ts';

/** A fleet's status at a moment, and the limit by which it is stale. */
export interface Report extends FleetStatus {
  /** The fleet id. */
  fleet: string;
  /** Unix seconds. */
  at: number;
  staleAfterSeconds: number | null;
  announced: AnnouncedUpdates;
}

/** The part of a report that is shown. */
export interface View {
  /** `problems`: what is not right; `all`: every node and channel too; `failed`: the failed ones alone. */
  rows: 'problems' | 'all' | 'failed';
  /** This node alone; undefined: all. */
  node: string | undefined;
  /** Columns; Infinity: no line is cut. */
  width: number;
  /** Lines, which are then cut to the width too, as for a terminal that is drawn again; null: no limit. */
  height: number | null;
}

/** A screen of lines, which the report of 50 nodes and 10 channels fits. */
const screenLines = 24;
/** Lines of problems at least, however many channels there are. */
const minProblemLines = 8;
const minHeight = 4;
const indent = 10;
const minFileColumns = 8;

/** The object of --json, whose shape is documented (docs/status.md); ASCII, one line. */
export function statusJson(report: Report, view: Pick<View, 'rows' | 'node'>): string {
  const { fleet, at, newestCreated, isStale, staleAfterSeconds } = report;
  const { nodes, verdict } = viewed(report, view);
  const timeOf = (seconds: number | null): string | null =>
    seconds === null ? null : isoTime(seconds);
  const value = {
    fleet,
    at: isoTime(at),
    verdict,
    why: whyOf(listProblems(report.nodes.filter(isOf(view.node)), report)),
    exitStatus: verdictStatuses[verdict],
    newestAnnouncement: timeOf(newestCreated),
    isStale,
    staleAfterSeconds,
    updates: updatesOf(report, nodes).map(updateJson),
    nodes: nodes.map(({ name, member, facts, verdict: nodeVerdict, why, channels }) => ({
      name,
      member,
      answered: facts !== null,
      verdict: nodeVerdict,
      why,
      software: facts?.software ?? null,
      keySetEpoch: facts?.epoch ?? null,
      newestAnnouncement: timeOf(facts?.newestCreated ?? null),
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
    until: current === null || current.until === null ? null : isoTime(current.until),
    reason: current?.reason ?? null,
    download: current?.download ?? null,
    run: current?.run ?? null,
    lastApplied: lastApplied === 0 ? null : lastApplied,
    equivocation,
  };
}

function updateJson({ channel, version, announced, targets, done, others }: UpdateSummary) {
  const { name, kind, created, notBefore, target, signers, isRevoked } = announced ?? {};
  return {
    channel,
    version,
    name: name ?? null,
    kind: kind ?? null,
    created: created === undefined ? null : isoTime(created),
    notBefore: notBefore === undefined || notBefore === 0 ? null : isoTime(notBefore),
    target: target ?? null,
    signers: signers ?? null,
    isRevoked: isRevoked ?? null,
    targets,
    done,
    others: Object.fromEntries(others.map(({ state, count }) => [state, count])),
  };
}

/** The nodes and rows of a view, and the verdict that counts for it. */
function viewed(report: Report, { rows, node }: Pick<View, 'rows' | 'node'>): FleetStatus {
  const shown =
    node === undefined ? report.nodes : report.nodes.filter(({ name }) => name === node);
  const verdict = node === undefined ? report.verdict : (shown[0]?.verdict ?? report.verdict);
  if (rows !== 'failed') return { ...report, nodes: shown, verdict };
  const nodes = shown.flatMap((each): NodeRow[] => {
    if (each.verdict !== 'failed') return [];
    return [{ ...each, channels: each.channels.filter((row) => row.verdict === 'failed') }];
  });
  return { ...report, nodes, verdict };
}

/** The updates of the channels of a view, as the whole fleet has them. */
function updatesOf({ nodes, announced }: Report, shown: readonly NodeRow[]): UpdateSummary[] {
  const channels = new Set(shown.flatMap((node) => node.channels.map(({ channel }) => channel)));
  return summarizeUpdates(nodes, announced).filter(({ channel }) => channels.has(channel));
}

/** Updates that every node has, and no further one can get. */
function notesOn(summaries: readonly UpdateSummary[], nodes: readonly NodeRow[]): Problem[] {
  const isTold = (channel: string): boolean =>
    nodes.some((node) => node.channels.some((row) => row.channel === channel && row.isRevoked));
  const words = ['submit', '--renew', '--all'];
  return summaries.flatMap(({ channel, announced }): Problem[] => {
    if (announced?.isRevoked !== true || isTold(channel)) return [];
    const what = 'the fleet trusts its signer no more: a new node cannot get it';
    const help: Help = { where: 'here', when: '', words };
    return [{ verdict: 'converged', label: 'revoked', subject: channel, what, nodes: [], help }];
  });
}

function isOf(node: string | undefined) {
  return ({ name }: NodeRow): boolean => node === undefined || name === node;
}

/** The lines of the report: the verdict, the updates, what is not right; all ASCII. */
export function statusLines(report: Report, view: View): string[] {
  const { nodes, verdict } = viewed(report, view);
  const { width, height, node, rows } = view;
  const summaries = updatesOf(report, nodes);
  const problems = [...listProblems(nodes, report), ...notesOn(summaries, nodes)];
  const who = `${node === undefined ? '' : `${node} of `}fleet ${report.fleet}`;
  const all = report.nodes.filter(isOf(node));
  const top = [cut(cell(`${who}: ${verdict}: ${verdictText(all, report)}`), width)];
  if (height !== null && height < minHeight) return top.slice(0, height);
  top.push(...factLines(report, all, width));

  const updates = updateLines(summaries, report.at, width);
  const table = rows === 'problems' && node === undefined ? [] : tableLines(nodes, report.at);
  if (height === null) {
    const isBrief = rows === 'problems' && node === undefined;
    const used = top.length + updates.length + 2;
    const room = isBrief ? Math.max(minProblemLines, screenLines - used) : Infinity;
    return sections(top, updates, problemLines(problems, width, room), table);
  }
  const left = height - top.length - 2;
  // Both parts get their half, or what the other one leaves.
  const wanted = problems.length * 2;
  const forUpdates = Math.max(Math.floor(left / 2), left - wanted);
  const fitting = fitUpdates(updates, summaries, forUpdates);
  const shown = problemLines(problems, width, left - fitting.length);
  return sections(top, fitting, shown, table)
    .slice(0, height)
    .map((line) => cut(line, width));
}

/** Joins the parts by empty lines. */
function sections(...parts: string[][]): string[] {
  const filled = parts.filter((part) => part.length > 0);
  return filled.flatMap((part, index) => (index === 0 ? part : ['', ...part]));
}

/** The lines of the updates for which there is room: those that are not everywhere yet come first. */
function fitUpdates(
  lines: readonly string[],
  summaries: readonly UpdateSummary[],
  room: number,
): string[] {
  if (lines.length <= room) return [...lines];
  const [header = '', ...rows] = lines;
  if (room < 3) return [];
  const isOpen = (index: number): boolean => (summaries[index]?.others.length ?? 0) > 0;
  const ordered = [...rows.keys()].sort((a, b) => Number(isOpen(b)) - Number(isOpen(a)));
  const kept = ordered.slice(0, room - 2).sort((a, b) => a - b);
  const more = `and ${rows.length - kept.length} more`;
  return [header, ...kept.map((index) => rows[index] ?? ''), more];
}

function verdictText(nodes: readonly NodeRow[], report: Report): string {
  const why = whyOf(listProblems(nodes, report));
  if (why !== '') return why;
  const hasUpdates = nodes.some(({ channels }) => channels.length > 0);
  return hasUpdates ? 'every node has what is meant for it' : 'no updates yet';
}

/** The worst that is not right, in one line; '' when there is nothing. */
function whyOf(problems: readonly Problem[]): string {
  const first = problems.find(({ verdict }) => verdict !== 'converged');
  if (first === undefined) return '';
  const { subject, what, nodes } = first;
  const [name, ...others] = nodes;
  if (name === undefined) return what;
  const where = others.length === 0 ? name : `${name} and ${others.length} more`;
  return `${subject === '' ? where : `${subject} on ${where}`}: ${what}`;
}

function factLines(
  { at, newestCreated }: Report,
  nodes: readonly NodeRow[],
  width: number,
): string[] {
  const answers = nodes.filter(({ facts }) => facts !== null).length;
  const newest = newestCreated === null ? 'none' : `${age(at - newestCreated)} ago`;
  const facts = [
    `${answers} of ${nodes.length} nodes answer`,
    `software ${softwareText(nodes)}`,
    `newest announcement ${newest}`,
  ];
  return [cut(cell(facts.join(', ')), width)];
}

function softwareText(nodes: readonly NodeRow[]): string {
  const counts = new Map<string, number>();
  for (const { facts } of nodes)
    if (facts !== null) counts.set(facts.software, (counts.get(facts.software) ?? 0) + 1);
  if (counts.size <= 1) return [...counts.keys()].join('') || 'unknown';
  return [...counts].map(([version, count]) => `${version} on ${count}`).join(' and ');
}

/** A header, and a line for each update. */
function updateLines(summaries: readonly UpdateSummary[], at: number, width: number): string[] {
  if (summaries.length === 0) return [];
  const rows = summaries.map((summary) => {
    const { announced } = summary;
    const isStop = announced?.kind === 'withdraw';
    return {
      update: nameOf(summary),
      file: isStop ? '(withdrawn)' : cell(announced?.name ?? '?'),
      created: announced === undefined ? '?' : localTime(announced.created, at),
      signer: signerText(summary),
      summary,
    };
  });
  const header = { update: 'UPDATE', file: 'FILE', created: 'CREATED', signer: 'SIGNER' };
  const longest = (key: keyof typeof header): number =>
    rows.reduce((most, row) => Math.max(most, row[key].length), header[key].length);
  const [update, created, signer] = [longest('update'), longest('created'), longest('signer')];
  const states = rows.reduce(
    (most, { summary }) => Math.max(most, statesText(summary, Infinity).length),
    0,
  );
  const fixed = update + created + signer + 4 * 2;
  // The states come before a long file name, which the end of a narrow line has room for otherwise.
  const forFile = Math.max(
    minFileColumns,
    Math.min(14, width - fixed - 20),
    width - fixed - states,
  );
  const file = Math.min(longest('file'), forFile);
  const line = (row: typeof header, last: string): string =>
    [
      row.update.padEnd(update),
      cutName(row.file, file).padEnd(file),
      row.created.padEnd(created),
      row.signer.padEnd(signer),
      last,
    ].join('  ');
  return [
    line(header, 'APPLIED'),
    ...rows.map((row) => line(row, statesText(row.summary, width - fixed - file)).trimEnd()),
  ];
}

/** `45/48, 2 POISONED, 1 QUEUED`; what does not fit is told below. */
function statesText({ targets, done, others }: UpdateSummary, columns: number): string {
  if (targets === 0) return 'no target';
  let text = `${done}/${targets}`;
  for (const { state, count } of others) {
    const longer = `${text}, ${count} ${state}`;
    if (longer.length > columns) return text.length + 4 <= columns ? `${text}, ..` : text;
    text = longer;
  }
  return text;
}

/** The first signer by the beginning of its id. */
function signerText({ announced }: UpdateSummary): string {
  if (announced === undefined) return '?';
  const [first, ...more] = announced.signers;
  if (first === undefined) return 'unsigned';
  return `${first.slice(0, 8)}${more.length > 0 ? `+${more.length}` : ''}`;
}

/** Two lines for each problem, as many as there is room for: what, and on which nodes, with the command that helps. */
function problemLines(problems: readonly Problem[], width: number, room: number): string[] {
  const lines: string[] = [];
  for (const [index, { label, subject, what, nodes, help }] of problems.entries()) {
    const text = subject === '' ? what : `${subject}: ${what}`;
    const first = cut(`${label.padEnd(indent)}${cell(text)}`, width);
    const second = placeText(nodes, help, width - indent);
    const both = second === '' ? [first] : [first, `${' '.repeat(indent)}${second}`];
    const isLast = index + 1 === problems.length;
    if (lines.length + both.length + (isLast ? 0 : 1) > room) {
      const command = commandHint('status', '--all');
      return [...lines, `${`and ${problems.length - index} more`.padEnd(indent)} ${command}`];
    }
    lines.push(...both);
  }
  return lines;
}

/** The nodes, as many as there is room for, and the command. */
function placeText(nodes: readonly string[], help: Problem['help'], columns: number): string {
  if (nodes.length === 0) return help === null ? '' : commandHint(...help.words);
  const after = help === null ? '' : afterNodes(help);
  const names = nodes.map(cell);
  // A name and its comma take three columns at least.
  for (let kept = Math.min(names.length, Math.max(1, columns)); ; kept -= 1) {
    const more = kept < names.length ? ` and ${names.length - kept} more` : '';
    const text = `on ${names.slice(0, kept).join(', ')}${more}${after}`;
    if (kept === 1 || text.length <= columns) return text;
  }
}

function afterNodes({ where, when, words }: Help): string {
  const command = commandHint(...words);
  return where === 'there' ? `: ${command}` : `; ${when === '' ? 'here' : when}: ${command}`;
}

/** A line for each node and channel. */
function tableLines(nodes: readonly NodeRow[], at: number): string[] {
  const rows = nodes.flatMap(({ name, facts, why, channels }) => {
    if (facts === null) return [[name, '-', '-', '-', '-', why]];
    if (channels.length === 0)
      return [[name, '-', '-', '-', '-', why === '' ? 'no updates yet' : why]];
    return channels.map((row) => [name, ...channelCells(row, at)]);
  });
  if (rows.length === 0) return [];
  const header = ['NODE', 'CHANNEL', 'VERSION', 'STATE', 'AGE', 'LAST RESULT'];
  const table = [header, ...rows.map((row) => row.map(cell))];
  const widths = [0, 1, 2, 3, 4].map((column) =>
    table.reduce((most, row) => Math.max(most, row[column]?.length ?? 0), 0),
  );
  return table.map((row) =>
    row
      .map((text, column) => text.padEnd(widths[column] ?? 0))
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
  const { version, state, since, until, download } = current;
  const results = [download === null ? resultText(current) : rateText([download])];
  if (until !== null) results.unshift(`until ${localTime(until, at)}`);
  if (why !== '' && why !== current.reason && verdict !== 'scheduled') results.push(why);
  const isOther = lastApplied !== 0 && lastApplied !== version && state !== 'WITHDRAWN';
  if (isOther) results.push(`before: ${lastApplied}`);
  return [channel, String(version), state, age(at - since), results.join('; ')];
}
