import { keySetChannel, type Kind } from '../announcement/fields.ts';
import {
  type AnnouncementOffer,
  nameOf,
  type Offer,
  parseAnnouncement,
  type UpdateId,
} from '../announcement/update.ts';
import type { Config } from '../config.ts';
import type { SerfClient } from '../daemons/serf/client.ts';
import { hasErrno, UpdateError } from '../errors.ts';
import { HeldUpdates } from '../state/held.ts';
import { currentKeySet, readChained } from '../state/key-chain.ts';
import type { KeySet } from '../trust/key-set.ts';
import { verificationFault } from '../trust/verify.ts';
import { formatRequest, latestQuery, maxKeysPerRequest, parseTexts } from './latest.ts';
import type { NodeSummary } from './node-summary.ts';

const querySeconds = 1;
const maxQueriesAtOnce = 8;
const maxNameBytes = 384;
/** Members that are asked for the same announcement. */
const maxAskedEach = 3;

/** Facts of an update by its own announcement, which this node holds, or which has just been verified. */
export interface Announced {
  /** null: a bare torrent. */
  kind: Kind | null;
  name: string;
  /** Unix seconds, both; `notBefore` 0: at once. */
  created: number;
  notBefore: number;
  target: string;
  /** Ids of keys; none of a bare torrent. */
  signers: readonly string[];
  /** The key set in force trusts its signers no more: a node that lacks it can neither get nor apply it. */
  isRevoked: boolean;
}

/** By `channel@version`. */
export type AnnouncedUpdates = ReadonlyMap<string, Announced>;

/**
 * Finds the announcements behind the versions that members name: those that this node holds, and else from a
 * member that names it, if they verify. A version without one is missing in the result.
 */
export async function findAnnounced(
  config: Config,
  serf: Pick<SerfClient, 'query'>,
  answers: ReadonlyMap<string, NodeSummary | null>,
): Promise<Map<string, Announced>> {
  const namedBy = new Map<string, { id: UpdateId; names: string[] }>();
  const name = (id: UpdateId, member: string): void => {
    if (id.version === 0) return;
    const known = namedBy.get(nameOf(id));
    if (known === undefined) namedBy.set(nameOf(id), { id, names: [member] });
    else known.names.push(member);
  };
  for (const [member, summary] of answers)
    for (const { channel, newest, current } of summary?.channels ?? [])
      for (const version of new Set([newest, current?.version ?? 0]))
        name({ channel, version }, member);

  const keySet = keySetOf(config);
  const found = new Map<string, Announced>();
  const missing: { key: string; names: readonly string[] }[] = [];
  const held = openHeld(config);
  for (const [key, { id, names }] of namedBy) {
    const offer = await readOffer(config, held, id);
    if (offer === undefined) missing.push({ key, names });
    else found.set(key, describeOffer(offer, keySet));
  }
  if (keySet === undefined || missing.length === 0) return found;
  for (const offer of await fetchOffers(serf, missing, keySet))
    found.set(nameOf(offer.update), describeOffer(offer, keySet));
  return found;
}

function describeOffer(offer: Offer, keySet: KeySet | undefined): Announced {
  const { kind, name, created, notBefore, target } = offer.update;
  const facts = { kind, name, created, notBefore, target };
  if (offer.source === 'torrent') return { ...facts, signers: [], isRevoked: false };
  const isRevoked =
    keySet !== undefined &&
    kind !== 'keyset' &&
    verificationFault(offer.signed, keySet) === 'untrusted';
  return { ...facts, signers: offer.signed.signers, isRevoked };
}

/** The key set in force; undefined without a usable one, as in a closed lab. */
function keySetOf(config: Config): KeySet | undefined {
  return orUndefined(() => currentKeySet(config));
}

function openHeld(config: Config): HeldUpdates | undefined {
  return orUndefined(() => new HeldUpdates(config));
}

/** A result, or undefined for what is missing, unusable, or closed to this user. */
function orUndefined<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch (error) {
    requireUnreadable(error);
    return undefined;
  }
}

function requireUnreadable(error: unknown): void {
  if (!(error instanceof UpdateError || hasErrno(error, 'EACCES', 'EPERM'))) throw error;
}

/** Reads an announcement of this node; that of a key set also from the chain. */
async function readOffer(
  config: Config,
  held: HeldUpdates | undefined,
  id: UpdateId,
): Promise<Offer | undefined> {
  const offer = await held?.offer(id).catch((error: unknown) => {
    requireUnreadable(error);
    return undefined;
  });
  if (offer !== undefined || id.channel !== keySetChannel) return offer;
  return orUndefined(() => {
    const link = readChained(config.applyDir, id.version);
    return link && parseAnnouncement(link.payload);
  });
}

/** Asks members for announcements; those that do not verify are left out, since a member can make up any. */
async function fetchOffers(
  serf: Pick<SerfClient, 'query'>,
  missing: readonly { key: string; names: readonly string[] }[],
  keySet: KeySet,
): Promise<AnnouncementOffer[]> {
  const requests: { keys: string[]; names: string[] }[] = [];
  for (let at = 0; at < missing.length; at += maxKeysPerRequest) {
    const part = missing.slice(at, at + maxKeysPerRequest);
    const names = new Set(part.flatMap((each) => each.names.slice(0, maxAskedEach)));
    requests.push({ keys: part.map(({ key }) => key), names: whatFits([...names]) });
  }
  const texts = await Promise.all(
    requests.slice(0, maxQueriesAtOnce).map(async ({ keys, names }) => {
      const request = formatRequest({ kind: 'get', keys });
      const answers = await serf
        .query(latestQuery, request, querySeconds, names)
        .catch((error: unknown) => {
          // The report does without them.
          if (error instanceof UpdateError) return new Map<string, string>();
          throw error;
        });
      return [...answers.values()].flatMap(parseTexts);
    }),
  );
  return texts.flat().flatMap((text) => {
    const offer = orUndefined(() => parseAnnouncement(text));
    return offer === undefined || verificationFault(offer.signed, keySet) !== undefined
      ? []
      : [offer];
  });
}

/** The first names that a query has room for beside its keys (QuerySizeLimit in serf/config.go). */
function whatFits(names: readonly string[]): string[] {
  let bytes = 0;
  return names.filter((name) => (bytes += Buffer.byteLength(name) + 2) <= maxNameBytes);
}
