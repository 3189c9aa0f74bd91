import { keySetChannel } from '../announcement/fields.ts';
import { type Offer, parsePayload, type UpdateId } from '../announcement/update.ts';
import type { Config } from '../config.ts';
import { stateError } from '../errors.ts';
import { isoTime } from '../system/iso-time.ts';
import { verifyOffer } from '../trust/verify.ts';
import { decide, type Decision } from './decide.ts';
import { keepEquivocation } from './equivocation.ts';
import {
  keepAccepted,
  keepPending,
  removeAccepted,
  repairAccepted,
  ringAccepted,
} from './facts.ts';
import { HeldUpdates } from './held.ts';
import { type Clock, heldAheadOfTime, markFor, roleOfUpdate } from './high-water-mark.ts';
import { currentKeySet } from './key-chain.ts';

/**
 * Parses one payload, verifies it, decides, and stores it durably if it is to be kept. Called for an
 * event, for a neighbour's response, and again for a pending announcement.
 *
 * @throws UpdateError `malformed`, `untrusted`, `try-later`, `configuration`; nothing is stored then
 */
export async function acceptPayload(
  payload: Uint8Array,
  config: Config,
  deps: Clock,
): Promise<{ update: UpdateId; decision: Decision }> {
  const offer = await parsePayload(payload);
  verifyOffer(offer, config, () => currentKeySet(config));
  const { update } = offer;
  // Mark first, stored fact second: the same announcement, stored by another handler in between, then
  // compares as the same and is not refused as old.
  const held = new HeldUpdates(config);
  const mark = markFor(held, update, deps);
  const stored = await compareStored(offer, held);
  const decision = decide({
    kind: update.kind,
    channel: update.channel,
    version: update.version,
    created: update.created,
    expires: update.expires,
    length: update.length,
    isForUs: roleOfUpdate(config, update).role !== 'not-targeted',
    stored: stored === 'damaged' ? 'same' : stored,
    mark,
    knownChannels: new Set([...held.channels.keys()].filter((name) => name !== keySetChannel)),
    allowedChannels: config.channels,
    maxContentBytes: config.maxContentBytes,
    nowSeconds: deps.nowSeconds,
    buildTime: deps.buildTime,
  });
  const fact = { payload: offer.text, acceptedAt: isoTime(deps.nowSeconds) };
  try {
    switch (decision.kind) {
      case 'accept':
        // They would go on as the newest. One that was taken rightly, before the clock was set back, comes again.
        for (const id of heldAheadOfTime(held, update, deps)) removeAccepted(config.stateDir, id);
        // Two handlers at once: the second one finds the fact and decides again.
        if (!keepAccepted(config.stateDir, update, fact))
          return await acceptPayload(payload, config, deps);
        break;
      case 'ring':
        if (stored === 'damaged') repairAccepted(config.stateDir, update, fact);
        ringAccepted(config.stateDir, update);
        break;
      case 'wait':
        // One pending announcement a channel: one for other nodes, or a noop, must not take its place.
        if (roleOfUpdate(config, update).role === 'active')
          keepPending(config.stateDir, update, offer.text);
        break;
      case 'refuse':
        // A bare torrent is unsigned, so it proves nothing.
        if (stored === 'other' && offer.source === 'announcement')
          keepEquivocation(held, update, offer.text, deps.nowSeconds);
        break;
      default:
        decision satisfies never;
    }
  } catch (error) {
    throw stateError(error, config.stateDir);
  }
  return { update, decision };
}

async function compareStored(
  offer: Offer,
  held: HeldUpdates,
): Promise<'none' | 'same' | 'other' | 'damaged'> {
  const { update, body } = offer;
  const stored = await held.offer(update);
  if (stored === undefined) return held.has(update) ? 'damaged' : 'none';
  return Buffer.compare(stored.body, body) === 0 ? 'same' : 'other';
}
