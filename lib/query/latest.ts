import { isChannel, isInfoHash } from '../announcement/fields.ts';
import { parseUpdateName, type UpdateId } from '../announcement/update.ts';
import type { Config } from '../config.ts';
import { UpdateError } from '../errors.ts';
import { listAccepted } from '../state/facts.ts';
import { HeldUpdates } from '../state/held.ts';
import { epochOf } from '../state/key-chain.ts';
import { requestReseed } from '../state/reseeds.ts';
import {
  chooseServed,
  fingerprint,
  type Holding,
  type Item,
  listHoldings,
  maxResponseChars,
} from './holdings.ts';

/** The Serf query that `handlers/latest.ts` answers; docs/serf.md has its texts. */
export const latestQuery = 'update-latest';

/** Keys that one request may name: more than a response has room for announcements. */
export const maxKeysPerRequest = 8;
const format = '1';
/** Serf's own limit of a response (QueryResponseSizeLimit in serf/config.go), with some of its frame. */
const maxReplyChars = 1024;

/** Response to `reseed` of a node that has the content. */
export const reseedTaken = 'yes';

/** A request of one member to another one. */
export type LatestRequest =
  /** One page of the digest, with the keys after this one; null: from the first key. */
  | { kind: 'digest'; after: string | null }
  /** The announcements of these keys. */
  | { kind: 'get'; keys: string[] }
  /** The highest version of a channel. */
  | { kind: 'newest'; channel: string }
  /** To take a torrent out of Transmission, with its data kept, and add it anew. */
  | { kind: 'reseed'; infoHash: string }
  /** The time by its clock. */
  | { kind: 'clock' };

/** Formats a request as the text of a query. */
export function formatRequest(request: LatestRequest): string {
  switch (request.kind) {
    case 'digest':
      return request.after === null ? 'digest' : `digest ${request.after}`;
    case 'get':
      return `get ${request.keys.join(' ')}`;
    case 'newest':
      return `newest ${request.channel}`;
    case 'reseed':
      return `reseed ${request.infoHash}`;
    case 'clock':
      return 'clock';
  }
}

/**
 * Parses the text of a query.
 *
 * @throws UpdateError `malformed`: any member can ask anything
 */
export function parseRequest(text: string): LatestRequest {
  const [kind, ...words] = text.split(' ', 2 + maxKeysPerRequest);
  const [word] = words;
  const areKeys = words.every((each) => parseUpdateName(each) !== undefined);
  if (kind === 'digest' && words.length <= 1 && areKeys) return { kind, after: word ?? null };
  if (kind === 'get' && words.length >= 1 && words.length <= maxKeysPerRequest && areKeys)
    return { kind, keys: words };
  if (kind === 'newest' && word !== undefined && words.length === 1 && isChannel(word))
    return { kind, channel: word };
  if (kind === 'reseed' && word !== undefined && words.length === 1 && isInfoHash(word))
    return { kind, infoHash: word };
  if (kind === 'clock' && words.length === 0) return { kind };
  throw new UpdateError('malformed', 'unknown request', {
    hint: 'ask for: digest [KEY], get KEY…, newest CHANNEL, reseed INFOHASH, or clock (docs/serf.md)',
  });
}

/**
 * Answers a request with at most 900 ASCII characters.
 *
 * @param nowSeconds unix seconds
 */
export async function answerRequest(
  request: LatestRequest,
  config: Config,
  nowSeconds: number,
): Promise<string> {
  switch (request.kind) {
    case 'digest':
      return formatDigest(await served(config, nowSeconds), epochOf(config), request.after);
    case 'get': {
      const channels = new Set(request.keys.map((key) => parseUpdateName(key)?.channel ?? ''));
      const held = await served(config, nowSeconds, channels);
      const texts = request.keys.flatMap(
        (key) => held.find((each) => each.key === key)?.payload ?? [],
      );
      return fit(texts, maxResponseChars).join('\n');
    }
    case 'newest':
      // By the names of files, so that damaged ones count.
      return String(
        listAccepted(config.stateDir).findLast(({ channel }) => channel === request.channel)
          ?.version ?? 0,
      );
    case 'reseed':
      return (await requestReseed(new HeldUpdates(config), request.infoHash)) ? reseedTaken : 'no';
    case 'clock':
      return String(Math.floor(nowSeconds));
  }
}

async function served(
  config: Config,
  nowSeconds: number,
  channels?: Set<string>,
): Promise<Holding[]> {
  return chooseServed(await listHoldings(new HeldUpdates(config), channels), nowSeconds);
}

/** One page of a node's holdings. */
export interface Digest {
  /** Of the key set in force there. */
  epoch: number;
  /** Fingerprint of all its holdings: two nodes with the same one hold the same. */
  all: string;
  items: Item[];
  /** Whether further items follow. */
  more: boolean;
}

/**
 * Formats the page after a key: `1 <epoch> <number of items in all> <fingerprint of all>`, a line for
 * each item, and `more` where it ends early.
 *
 * @param held sorted by key
 */
export function formatDigest(
  held: readonly Item[],
  epoch: number,
  after: string | null = null,
): string {
  const first = `${format} ${epoch} ${held.length} ${digestOfAll(held)}`;
  const rest = held.filter(({ key }) => after === null || key > after).map(lineOf);
  const room = maxResponseChars - first.length - '\n\nmore'.length;
  const page = fit(rest, room);
  return [first, ...page, ...(page.length < rest.length ? ['more'] : [])].join('\n');
}

/** Fingerprint of all items of a node. */
export function digestOfAll(held: readonly Item[]): string {
  return fingerprint(held.map(lineOf).join('\n'));
}

function lineOf({ key, scope, body }: Item): string {
  return `${key} ${scope} ${body}`;
}

/** The first lines that have at most `maxChars` characters together. */
function fit(lines: readonly string[], maxChars: number): string[] {
  const fitting: string[] = [];
  let chars = 0;
  for (const line of lines) {
    chars += line.length + 1;
    if (chars - 1 > maxChars) break;
    fitting.push(line);
  }
  return fitting;
}

/**
 * Parses a member's page; undefined for anything else, since any member can answer anything.
 *
 * @param after the key of the request
 */
export function parseDigest(response: string, after: string | null = null): Digest | undefined {
  if (response.length > maxReplyChars) return undefined;
  const [first = '', ...lines] = response.trimEnd().split('\n');
  const match = /^1 (\d{1,10}) \d{1,6} ([0-9a-f]{8})$/.exec(first);
  const [, epoch, all] = match ?? [];
  if (epoch === undefined || all === undefined) return undefined;
  const more = lines.at(-1) === 'more';
  if (more) lines.pop();
  const items: Item[] = [];
  for (const line of lines) {
    const item = parseItem(line);
    const last = items.at(-1)?.key ?? after;
    // Ascending order keeps a member from having its pages asked for without end.
    if (item === undefined || (last !== null && item.key <= last)) return undefined;
    items.push(item);
  }
  if (more && items.length === 0) return undefined;
  return { epoch: Number(epoch), all, items, more };
}

function parseItem(line: string): Item | undefined {
  const [, key = '', scope, body] = /^(\S{1,41}) ([0-9a-f]{8}) ([0-9a-f]{8})$/.exec(line) ?? [];
  const id: UpdateId | undefined = parseUpdateName(key);
  if (id === undefined || scope === undefined || body === undefined) return undefined;
  return { ...id, key, scope, body };
}

/** The texts in a member's response to `get`, unverified. */
export function parseTexts(response: string): string[] {
  if (response.length > maxReplyChars) return [];
  return response.split('\n').filter((line) => /^[!-~]+$/.test(line));
}

/** The number in a member's response to `newest` or `clock`; undefined for a malformed one. */
export function parseCount(response: string): number | undefined {
  const count = /^\d{1,16}\s*$/.test(response) ? Number(response) : NaN;
  return Number.isSafeInteger(count) ? count : undefined;
}
