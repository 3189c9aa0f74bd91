import { createHash } from 'node:crypto';
import { keySetChannel } from '../announcement/fields.ts';
import {
  isExpired,
  nameOf,
  type Offer,
  parsePayload,
  type Update,
  type UpdateId,
} from '../announcement/update.ts';
import { UpdateError } from '../errors.ts';
import { HeldUpdates } from '../state/held.ts';
import { listEpochs, readChained } from '../state/key-chain.ts';

/** Longest text of a response; Serf allows 1,024 bytes with its frame (QueryResponseSizeLimit in serf/config.go). */
export const maxResponseChars = 900;

/** An announcement as nodes compare it, without its text. */
export interface Item extends UpdateId {
  /** `channel@version`. */
  key: string;
  /** Fingerprint of target and noop, 8 hex digits: the same for announcements that supersede each other. */
  scope: string;
  /** Fingerprint of the signed bytes, 8 hex digits: two bodies of one key are an equivocation. */
  body: string;
}

/** An announcement that this node has stored. */
export interface Holding extends Item {
  payload: string;
  expires: number | null;
}

/** A stored announcement that cannot be read; its target is not known. */
export interface Damaged extends UpdateId {
  key: string;
  scope: null;
}

/** Scope of an update for every node that is no noop: it supersedes everything older in its channel. */
export const scopeOfAll = scopeOf({ target: '', noop: false });

/**
 * Reads the stored announcements of some channels, or of all, the newest first within a channel; key sets
 * also from the chain, should their announcements be gone.
 */
export async function listHoldings(
  held: HeldUpdates,
  channels?: ReadonlySet<string>,
): Promise<(Holding | Damaged)[]> {
  const { config } = held;
  const found = new Map<string, Holding | Damaged>();
  for (const [channel, ids] of held.channels) {
    if (channels?.has(channel) === false) continue;
    for (const id of ids) {
      const offer = await held.offer(id);
      found.set(nameOf(id), offer === undefined ? damaged(id) : holdingOf(offer));
    }
  }
  if (channels?.has(keySetChannel) === false) return [...found.values()];
  for (const version of listEpochs(config.applyDir)) {
    const id = { channel: keySetChannel, version };
    const known = found.get(nameOf(id));
    if (known === undefined || known.scope === null)
      found.set(nameOf(id), await describeLink(id, readLink(config.applyDir, id.version)));
  }
  return [...found.values()];
}

/**
 * Chooses the announcements that a node offers to others: every key set, and of each channel the newest
 * of each scope that has not expired, unless a newer one for all nodes supersedes it.
 *
 * @param nowSeconds unix seconds
 * @returns sorted by key
 */
export function chooseServed(held: readonly (Holding | Damaged)[], nowSeconds: number): Holding[] {
  const readable = held.filter((each): each is Holding => each.scope !== null);
  return readable
    .filter((each) => isServed(each, readable, nowSeconds))
    .sort((a, b) => (a.key < b.key ? -1 : 1));
}

/** Whether one announcement supersedes another one on every node that the other one is for. */
export function supersedes(newer: Item | Damaged, older: Item): boolean {
  if (newer.channel !== older.channel || newer.version <= older.version) return false;
  // A damaged one counts: ignoring it could bring back an older update.
  return newer.scope === null || newer.scope === scopeOfAll || newer.scope === older.scope;
}

/**
 * Describes a payload as nodes compare it; nothing is verified.
 *
 * @throws UpdateError `malformed`
 */
export async function itemOf(payload: string): Promise<Holding> {
  return holdingOf(await parsePayload(Buffer.from(payload)));
}

/** The first 8 hex digits of a SHA-256: enough to see a difference, and no proof of equality. */
export function fingerprint(content: string | Uint8Array): string {
  return createHash('sha256').update(content).digest('hex').slice(0, 8);
}

function isServed(each: Holding, readable: readonly Holding[], nowSeconds: number): boolean {
  if (!/^[!-~]+$/.test(each.payload) || each.payload.length > maxResponseChars) return false;
  if (each.channel === keySetChannel) return true;
  return !isExpired(each, nowSeconds) && !readable.some((other) => supersedes(other, each));
}

function scopeOf({ target, noop }: Pick<Update, 'target' | 'noop'>): string {
  return fingerprint(`${target}\0${noop ? 1 : 0}`);
}

async function describeLink(id: UpdateId, payload: string | undefined): Promise<Holding | Damaged> {
  if (payload === undefined) return damaged(id);
  try {
    const item = await itemOf(payload);
    return item.key === nameOf(id) ? item : damaged(id);
  } catch (error) {
    if (error instanceof UpdateError) return damaged(id);
    throw error;
  }
}

function damaged(id: UpdateId): Damaged {
  return { ...id, key: nameOf(id), scope: null };
}

function holdingOf({ update, body, text: payload }: Offer): Holding {
  const { channel, version, expires } = update;
  const id = { channel, version };
  return {
    ...{ ...id, key: nameOf(id), payload, expires },
    ...{ scope: scopeOf(update), body: fingerprint(body) },
  };
}

function readLink(applyDir: string, epoch: number): string | undefined {
  try {
    return readChained(applyDir, epoch)?.payload;
  } catch (error) {
    // Of a later format, by its own word.
    if (error instanceof UpdateError) return undefined;
    throw error;
  }
}
