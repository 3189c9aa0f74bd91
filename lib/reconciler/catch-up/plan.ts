import { keySetChannel } from '../../announcement/fields.ts';
import { nameOf } from '../../announcement/update.ts';
import { type Damaged, type Holding, type Item, supersedes } from '../../query/holdings.ts';

/** State of one neighbour during a catch-up. */
export interface Neighbour {
  name: string;
  /** Of the key set in force there, as it says. */
  epoch: number;
  /** The key after which its next page is to be asked for; null: it has no more, or is not asked. */
  nextPage: string | null;
  /** Its holdings, by its own word, by {@link offerKey}. */
  offers: Map<string, Offer>;
  /** Offers that it has been asked for, and need not be again. */
  done: Set<string>;
  /** Times that it did not deliver, or delivered something that is not to be trusted. */
  strikes: number;
}

/** An announcement that a neighbour holds; of the next key set its epoch may be all that is known. */
export type Offer =
  Item | (Pick<Item, 'channel' | 'version' | 'key'> & { scope: null; body: null });

/** State of this node, with which offers are compared. */
export interface OwnState {
  held: readonly (Holding | Damaged)[];
  /** Of the key set in force. */
  epoch: number;
  /** The channels that this node follows; null: all. */
  channels: readonly string[] | null;
  /** Offers that were refused, or have to wait, by {@link offerKey}. */
  settled: ReadonlySet<string>;
}

/** One query to one neighbour. */
export type Ask =
  { kind: 'page'; to: Neighbour; after: string } | { kind: 'get'; to: Neighbour; offers: Offer[] };

/** Each neighbour answers its queries one at a time, and a query takes its two seconds in any case. */
export const maxQueriesAtOnce = 4;
/** Keys of one request: more announcements seldom fit a response. */
const maxKeysAtOnce = 3;
/** Strikes after which a neighbour is not asked any more: a response may be lost once or twice. */
export const maxStrikes = 3;

/** Key and body of an announcement: the same announcement has the same of both. */
export function offerKey({ key, body }: Pick<Offer, 'key' | 'body'>): string {
  return `${key} ${body ?? 'any'}`;
}

/** Whether this node lacks something that a neighbour holds, and could take it now. */
export function isMissing(offer: Offer, own: OwnState): boolean {
  const { channel, version, key } = offer;
  if (own.settled.has(offerKey(offer))) return false;
  const held = own.held.find((each) => each.key === key);
  const isSame =
    held !== undefined && held.scope !== null && (offer.body ?? held.body) === held.body;
  if (isSame) return false;
  // One epoch at a time: only the keys in force can say which set comes next.
  if (channel === keySetChannel) return version === own.epoch + 1;
  if (own.channels?.includes(channel) === false) return false;
  return offer.scope === null || !own.held.some((each) => supersedes(each, offer));
}

/**
 * Plans the queries of one round: the pages that are still to come, then announcements, those of
 * different neighbours side by side, so that no neighbour can hold up another one's. The next key set
 * comes first and alone, since it may remove the keys that signed the rest; within a channel the newest.
 *
 * @returns none when all is done
 */
export function planRound(neighbours: readonly Neighbour[], own: OwnState): Ask[] {
  const asked = neighbours.filter(({ strikes }) => strikes < maxStrikes);
  const asks: Ask[] = asked.flatMap((to) =>
    to.nextPage === null ? [] : [{ kind: 'page', to, after: to.nextPage }],
  );
  const wanted = new Map(asked.map((to) => [to, wantedOf(to, own)]));
  if ([...wanted.values()].some((offers) => offers.some(isKeySet)))
    for (const [to, offers] of wanted) wanted.set(to, offers.filter(isKeySet));
  const inAll = new Set([...wanted.values()].flatMap((offers) => offers.map(offerKey))).size;
  const free = Math.max(0, maxQueriesAtOnce - asks.length);
  // One key a query where that is enough: not every announcement leaves room for a second one.
  const size = Math.min(maxKeysAtOnce, Math.ceil(inAll / Math.max(1, free)));
  const taken = new Set<string>();
  for (let slot = 0, idle = 0; asks.length < maxQueriesAtOnce && idle < asked.length; slot += 1) {
    const to = asked[slot % asked.length];
    if (to === undefined) break;
    const offers = (wanted.get(to) ?? []).filter((offer) => !taken.has(offerKey(offer)));
    const batch = offers.slice(0, size);
    idle = batch.length === 0 ? idle + 1 : 0;
    for (const offer of batch) taken.add(offerKey(offer));
    if (batch.length > 0) asks.push({ kind: 'get', to, offers: batch });
  }
  return asks;
}

function isKeySet({ channel }: Offer): boolean {
  return channel === keySetChannel;
}

function wantedOf(to: Neighbour, own: OwnState): Offer[] {
  return [...nextKeySet(to, own), ...to.offers.values()]
    .filter((offer) => !to.done.has(offerKey(offer)) && isMissing(offer, own))
    .sort((a, b) =>
      a.channel === b.channel ? b.version - a.version : a.channel < b.channel ? -1 : 1,
    );
}

/** Offer of the next key set by its epoch alone: among the other channels it may be pages away. */
function nextKeySet({ epoch, offers }: Neighbour, own: OwnState): Offer[] {
  const id = { channel: keySetChannel, version: own.epoch + 1 };
  const key = nameOf(id);
  const isOffered = [...offers.values()].some((offer) => offer.key === key);
  return own.epoch > 0 && epoch > own.epoch && !isOffered
    ? [{ ...id, key, scope: null, body: null }]
    : [];
}
