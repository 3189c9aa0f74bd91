import {
  type AnnouncementOffer,
  looksLikeTorrent,
  type Offer,
  parseAnnouncement,
  parsePayload,
  type Update,
  type UpdateId,
  updateKey,
} from '../announcement/update.ts';
import { commandHint } from '../command-hint.ts';
import type { Config } from '../config.ts';
import { UpdateError } from '../errors.ts';
import type { KeySet } from '../trust/key-set.ts';
import { verifyOffer } from '../trust/verify.ts';
import { isStored, listAccepted, readAccepted, type StoredPayload } from './facts.ts';

/** One held announcement, as far as it has been read; null: it is damaged. */
interface Entry {
  stored: StoredPayload | undefined;
  offer?: Offer | null;
  verdict?: { epoch: number; result: Update | UpdateError };
}

/**
 * The announcements that this node holds, as one pass sees them: each is read, parsed and verified once,
 * when it is first asked for. Every process reads and verifies for itself.
 */
export class HeldUpdates {
  readonly config: Config;
  #ids: readonly UpdateId[] = [];
  #channels = new Map<string, UpdateId[]>();
  #entries = new Map<string, Entry>();

  constructor(config: Config) {
    this.config = config;
    this.refresh();
  }

  /**
   * Lists the announcements again. An intact one is not read again; a damaged one is, since it may have
   * been repaired.
   */
  refresh(): void {
    const ids = listAccepted(this.config.stateDir);
    if (ids === this.#ids) return;
    this.#ids = ids;
    this.#channels = new Map();
    // Of each channel the newest first.
    for (const id of [...ids].reverse()) {
      const held = this.#channels.get(id.channel);
      if (held === undefined) this.#channels.set(id.channel, [id]);
      else held.push(id);
    }
    for (const [key, entry] of this.#entries)
      if (entry.stored === undefined || entry.offer === null) this.#entries.delete(key);
  }

  /** Every held update, by channel, the oldest version first. */
  get ids(): readonly UpdateId[] {
    return this.#ids;
  }

  /** The channels of which something is held, each with its updates, the newest first. */
  get channels(): ReadonlyMap<string, readonly UpdateId[]> {
    return this.#channels;
  }

  /** The held updates of one channel, the newest first. */
  inChannel(channel: string): readonly UpdateId[] {
    return this.#channels.get(channel) ?? [];
  }

  /** Whether an update is held, intact or damaged. */
  has(id: UpdateId): boolean {
    return isStored(this.config.stateDir, id);
  }

  /** The stored payload of an update; undefined when it is absent or damaged. */
  stored(id: UpdateId): StoredPayload | undefined {
    return this.#entry(id).stored;
  }

  /** Whether the stored payload is a bare torrent. */
  isTorrent(id: UpdateId): boolean {
    const payload = this.stored(id)?.payload;
    return payload !== undefined && looksLikeTorrent(Buffer.from(payload));
  }

  /** The parsed announcement, not verified; undefined when it is absent, damaged, or a bare torrent. */
  announcement(id: UpdateId): AnnouncementOffer | undefined {
    const entry = this.#entry(id);
    if (entry.stored === undefined) return undefined;
    // A damaged one is null, and not parsed again.
    if (entry.offer === undefined && !this.isTorrent(id))
      entry.offer = parseStored(entry.stored, id);
    return entry.offer?.source === 'announcement' ? entry.offer : undefined;
  }

  /** The parsed payload, not verified; undefined when it is absent or damaged. */
  async offer(id: UpdateId): Promise<Offer | undefined> {
    const entry = this.#entry(id);
    if (entry.stored === undefined) return undefined;
    const announcement = this.announcement(id);
    if (announcement !== undefined) return announcement;
    if (entry.offer === undefined) entry.offer = await parseTorrent(entry.stored, id);
    return entry.offer ?? undefined;
  }

  /**
   * Verifies an update against a key set, once for each epoch.
   *
   * @param keySet called only for a signed update: a closed lab may have no keys
   * @returns the update, or the error that forbids its use: `malformed` when damaged, else that of verifyOffer
   * @throws UpdateError `configuration` when this node can verify nothing at all
   */
  async verified(id: UpdateId, keySet: () => KeySet): Promise<Update | UpdateError> {
    const offer = await this.offer(id);
    if (offer === undefined)
      return new UpdateError('malformed', `the announcement ${updateKey(id)} is damaged`, {
        hint: `the same bytes repair it, sent again from where it was submitted: ${commandHint('submit', '--resend')}`,
      });
    const entry = this.#entry(id);
    // Another key set gives another verdict.
    const epoch = offer.source === 'torrent' ? 0 : keySet().epoch;
    if (entry.verdict?.epoch !== epoch)
      entry.verdict = { epoch, result: judge(offer, this.config, keySet) };
    return entry.verdict.result;
  }

  #entry(id: UpdateId): Entry {
    const key = updateKey(id);
    const known = this.#entries.get(key);
    if (known !== undefined) return known;
    const entry: Entry = { stored: readAccepted(this.config.stateDir, id) };
    this.#entries.set(key, entry);
    return entry;
  }
}

function parseStored({ payload }: StoredPayload, id: UpdateId): AnnouncementOffer | null {
  try {
    return requireName(parseAnnouncement(payload), id);
  } catch (error) {
    if (error instanceof UpdateError) return null;
    throw error;
  }
}

async function parseTorrent({ payload }: StoredPayload, id: UpdateId): Promise<Offer | null> {
  try {
    return requireName(await parsePayload(Buffer.from(payload)), id);
  } catch (error) {
    if (error instanceof UpdateError) return null;
    throw error;
  }
}

/** Rejects an offer under a name that is not its own: the signature covers the fields, not the file's name. */
function requireName<T extends Offer>(offer: T, id: UpdateId): T | null {
  return updateKey(offer.update) === updateKey(id) ? offer : null;
}

function judge(offer: Offer, config: Config, keySet: () => KeySet): Update | UpdateError {
  try {
    verifyOffer(offer, config, keySet);
    return offer.update;
  } catch (error) {
    if (error instanceof UpdateError && error.code !== 'configuration') return error;
    throw error;
  }
}
