import type { Config } from '../../config.ts';
import type { SerfClient } from '../../daemons/serf/client.ts';
import { shownName } from '../../daemons/serf/members.ts';
import { UpdateError } from '../../errors.ts';
import { chooseServed, type Holding, itemOf } from '../../query/holdings.ts';
import {
  digestOfAll,
  formatRequest,
  latestQuery,
  type LatestRequest,
  parseDigest,
  parseTexts,
} from '../../query/latest.ts';
import type { LoggedEvent } from '../../system/event-log.ts';
import type { CatchUpRecord } from './due.ts';
import { type Ask, type Neighbour, type OwnState, offerKey } from './plan.ts';
import { acceptFromNeighbour, type Verdict } from './take.ts';

export interface CatchUpDeps {
  serf: Pick<SerfClient, 'members' | 'selfName' | 'query'>;
  /** Unix milliseconds. */
  nowMs: () => number;
  /** Unix seconds; see DecisionInput. */
  buildTime: number;
  log: (event: Omit<LoggedEvent, 'handler'>) => void;
  /** From 0 to below 1. */
  random: () => number;
  /** Milliseconds left for the whole catch-up. */
  leftMs: () => number;
  /** Resolves after that time. */
  pause: (ms: number) => Promise<void>;
}

/** Duration of one query, with or without responses: Serf waits for the whole of it. */
export const querySeconds = 2;
/** Offers taken from one neighbour: more than 64 channels need. */
const maxOffers = 512;

/** State of a catch-up that is under way. */
export interface Run {
  config: Config;
  deps: CatchUpDeps;
  /** Of the key set in force at its start. */
  epoch: number;
  /** Offers that are not asked for again, by {@link offerKey}. */
  settled: Set<string>;
  refused: CatchUpRecord['refused'];
  /** The next key set has come. */
  hasKeySet: boolean;
  /** An announcement needs a later key set, or a neighbour has one. */
  waits: boolean;
}

/**
 * Asks each neighbour for the first page of its holdings, in one query.
 *
 * @returns the neighbours that answered
 */
export async function fetchDigests(
  run: Run,
  names: readonly string[],
  own: OwnState,
): Promise<Neighbour[]> {
  const { deps } = run;
  const answers = await ask(run, { kind: 'digest', after: null }, names);
  const same = digestOfAll(chooseServed(own.held, deps.nowMs() / 1000));
  const neighbours = names.flatMap((name) => {
    const digest = parseDigest(answers.get(name) ?? '');
    if (digest === undefined) return [];
    const { epoch, items, more, all } = digest;
    run.waits ||= epoch > run.epoch;
    const isSame = all === same;
    const offers = new Map(isSame ? [] : items.map((item) => [offerKey(item), item]));
    const nextPage = more && !isSame ? (items.at(-1)?.key ?? null) : null;
    return [{ name, epoch, nextPage, offers, done: new Set<string>(), strikes: 0 }];
  });
  if (neighbours.length === 0)
    deps.log({ decision: 'wait', reason: `no answer from ${names.map(shownName).join(', ')}` });
  return neighbours;
}

async function ask(
  { deps }: Run,
  request: LatestRequest,
  names: readonly string[],
): Promise<Map<string, string>> {
  return deps.serf.query(latestQuery, formatRequest(request), querySeconds, names);
}

/** Sends one query to one neighbour and takes its response; a bad one counts as a strike. */
export async function askNeighbour(run: Run, each: Ask): Promise<void> {
  const { name } = each.to;
  const request: LatestRequest =
    each.kind === 'page'
      ? { kind: 'digest', after: each.after }
      : { kind: 'get', keys: each.offers.map(({ key }) => key) };
  const answer = (await ask(run, request, [name])).get(name);
  const isGood =
    answer !== undefined &&
    (each.kind === 'page' ? takePage(each, answer) : await takeTexts(run, each, answer));
  if (!isGood) each.to.strikes += 1;
}

function takePage({ to, after }: Extract<Ask, { kind: 'page' }>, answer: string): boolean {
  const digest = parseDigest(answer, after);
  if (digest === undefined) return false;
  for (const item of digest.items) to.offers.set(offerKey(item), item);
  const isMuch = to.offers.size > maxOffers;
  to.nextPage = digest.more && !isMuch ? (digest.items.at(-1)?.key ?? null) : null;
  return true;
}

/**
 * Takes the announcements of a response.
 *
 * @returns whether at least one came, each was asked for, and none was a forgery
 */
async function takeTexts(
  run: Run,
  { to, offers }: Extract<Ask, { kind: 'get' }>,
  answer: string,
): Promise<boolean> {
  let [last, strange, forged] = [-1, 0, 0];
  for (const text of parseTexts(answer)) {
    const item = await describe(text);
    const index = offers.findIndex(
      ({ key, body }) => key === item?.key && (body ?? item.body) === item.body,
    );
    if (item === undefined || index === -1) {
      strange += 1;
      continue;
    }
    last = Math.max(last, index);
    if ((await take(run, item, shownName(to.name))) === 'forged') forged += 1;
  }
  if (strange > 0)
    run.deps.log({
      decision: 'refuse',
      reason: `${strange} lines that were not asked for, from ${shownName(to.name)}`,
    });
  // A response keeps the order of the request: keys after the last one that came may have had no room.
  const answered = last === -1 ? offers : offers.slice(0, last + 1);
  for (const offer of answered) to.done.add(offerKey(offer));
  return last >= 0 && strange === 0 && forged === 0;
}

async function take(run: Run, item: Holding, from: string): Promise<Verdict> {
  const { config, deps } = run;
  const nowSeconds = Math.floor(deps.nowMs() / 1000);
  const verdict = await acceptFromNeighbour(item, from, config, { ...deps, nowSeconds });
  if (verdict !== 'forged') run.settled.add(offerKey(item));
  if (verdict === 'refused') run.refused.push({ offerKey: offerKey(item), at: deps.nowMs() });
  run.hasKeySet ||= verdict === 'key set';
  run.waits ||= verdict === 'waits';
  return verdict;
}

async function describe(text: string): Promise<Holding | undefined> {
  try {
    return await itemOf(text);
  } catch (error) {
    if (error instanceof UpdateError) return undefined;
    throw error;
  }
}
