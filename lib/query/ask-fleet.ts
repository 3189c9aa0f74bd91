import type { SerfClient } from '../daemons/serf/client.ts';
import { type Presence, presenceOf } from './judge-fleet.ts';
import type { NodeSummary } from './node-summary.ts';
import { parsePage, type SummaryPage } from './summary-page.ts';
import { formatTargetRequest, parseTargetAnswer, type TargetRequest } from './target-answer.ts';

/** The Serf query that every node answers (handlers/status.ts). */
const queryName = 'update-status';
/** Duration of a query: Serf waits for the whole of it. */
const querySeconds = 2;
/** Duration of the second try, for members that were too busy at first. */
const patientSeconds = 4;
/** Serf limits a whole query to 1,024 bytes (QuerySizeLimit in serf/config.go), with these names. */
const maxNameBytes = 512;
/** 64 channels need some 16 pages; no node of a fleet sends more than this. */
const maxPages = 40;
const maxQueriesAtOnce = 8;

type Asker = Pick<SerfClient, 'query'>;

/** Members by their own word on a target, by name. */
export interface TargetedMembers {
  matching: string[];
  others: string[];
  /** Without an answer, so that it is not known whether they are targets. */
  silent: { name: string; presence: Presence }[];
}

/**
 * Asks the named members for their status.
 *
 * @param request `channel@version`, `summary [CHANNEL]`, or `target CHANNEL EXPR`
 * @returns their responses, unchecked, by name
 */
export async function askMembers(
  serf: Asker,
  request: string,
  names: readonly string[],
  seconds = querySeconds,
): Promise<Map<string, string>> {
  if (names.length === 0) return new Map();
  const bytes = names.reduce((sum, name) => sum + Buffer.byteLength(name) + 2, 0);
  // Too many to be named: all members are asked.
  const filter = bytes <= maxNameBytes ? names : [];
  const wanted = new Set(names);
  const answers = await serf.query(queryName, request, seconds, filter);
  return new Map([...answers].filter(([name]) => wanted.has(name)));
}

/**
 * Asks the named members for their summaries, page after page; a member that does not answer is asked
 * once more.
 *
 * @returns null for a malformed response; no entry for a member that did not answer to the end
 */
export async function askSummaries(
  serf: Asker,
  names: readonly string[],
): Promise<Map<string, NodeSummary | null>> {
  const answers = new Map<string, NodeSummary | null>();
  let open = new Map(names.map((name) => [name, '']));
  for (let pages = 0; pages < maxPages && open.size > 0; pages += 1) {
    const next = new Map<string, string>();
    const groups = groupByValue(open).sort(([, a], [, b]) => b.length - a.length);
    const asked = groups.slice(0, maxQueriesAtOnce);
    for (const [after, members] of groups.slice(maxQueriesAtOnce))
      for (const name of members) next.set(name, after);
    for (const [name, after, text] of (
      await Promise.all(asked.map((group) => askPage(serf, ...group)))
    ).flat()) {
      const last = text === undefined ? undefined : addPage(answers, name, after, parsePage(text));
      if (last !== undefined) next.set(name, last);
      else if (text === undefined) answers.delete(name);
    }
    open = next;
  }
  for (const name of open.keys()) answers.delete(name);
  return answers;
}

/**
 * Asks every member whether a target matches it, which it decides by its own, root-owned name and tags. Of
 * those that do not answer nothing is known: version 0.2.0 does not answer this either.
 *
 * @param request its target is checked already
 * @throws UpdateError `unavailable` when Serf is down
 */
export async function askTargets(
  serf: Pick<SerfClient, 'query' | 'members'>,
  request: TargetRequest,
): Promise<TargetedMembers> {
  const members = await serf.members();
  const alive = members.filter(({ status }) => status === 'alive').map(({ name }) => name);
  const answers = await askPatiently(serf, formatTargetRequest(request), alive);
  const targeted: TargetedMembers = { matching: [], others: [], silent: [] };
  for (const member of members) {
    const { name } = member;
    const matches = parseTargetAnswer(answers.get(name) ?? '');
    if (matches === undefined) targeted.silent.push({ name, presence: presenceOf(member) });
    else if (matches) targeted.matching.push(name);
    else targeted.others.push(name);
  }
  return targeted;
}

/** Asks members for one page each. */
async function askPage(
  serf: Asker,
  after: string,
  names: readonly string[],
): Promise<[name: string, after: string, text: string | undefined][]> {
  const request = after === '' ? 'summary' : `summary ${after}`;
  const answers = await askPatiently(serf, request, names);
  return names.map((name) => [name, after, answers.get(name)]);
}

/** Asks members as {@link askMembers} does; one that does not answer is asked once more, for a longer time. */
async function askPatiently(
  serf: Asker,
  request: string,
  names: readonly string[],
): Promise<Map<string, string>> {
  const answers = await askMembers(serf, request, names);
  const silent = names.filter((name) => !answers.has(name));
  const late = await askMembers(serf, request, silent, patientSeconds);
  return new Map([...late, ...answers]);
}

/** Adds a member's page; returns the channel after which the next one begins, if there is one. */
function addPage(
  answers: Map<string, NodeSummary | null>,
  name: string,
  after: string,
  page: SummaryPage | undefined,
): string | undefined {
  const channels = page?.channels ?? [];
  // Ascending order keeps a member from having its pages asked for without end.
  const isOrdered = channels.every(
    ({ channel }, i) => channel > (channels[i - 1]?.channel ?? after),
  );
  if (page === undefined || !isOrdered) {
    answers.set(name, null);
    return undefined;
  }
  const { hasMore, ...summary } = page;
  const before = answers.get(name)?.channels ?? [];
  answers.set(name, { ...summary, channels: [...before, ...channels] });
  return hasMore ? channels.at(-1)?.channel : undefined;
}

function groupByValue(map: ReadonlyMap<string, string>): [value: string, keys: string[]][] {
  const groups = new Map<string, string[]>();
  for (const [key, value] of map) groups.set(value, [...(groups.get(value) ?? []), key]);
  return [...groups];
}
