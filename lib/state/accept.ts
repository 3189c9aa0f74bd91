import { keySetChannel } from '../announcement/fields.ts';
import { type Offer, parsePayload, type UpdateId } from '../announcement/update.ts';
import type { Config } from '../config.ts';
import { stateError } from '../errors.ts';
import { isoTime } from '../system/iso-time.ts';
import { verifyOffer } from '../trust/verify.ts';
import { decide, type Decision } from './decide.ts';
import { keepEquivocation } from './equivocation.ts';
import { keepAccepted, keepPending, repairAccepted, ringAccepted } from './facts.ts';
import { HeldUpdates } from './held.ts';
import { markFor, roleOfUpdate } from './high-water-mark.ts';
import { currentKeySet } from './key-chain.ts';

export interface AcceptDeps {
  /** Unix seconds. */
  now: number;
  /** Unix seconds; see DecisionInput. */
  buildTime: number;
}

/**
 * Takes one payload, however it came: parses it, verifies it, decides, and stores it durably when
 * it is to be kept. Called by the update handler, and again for what waited for a plausible clock.
 *
 * @throws UpdateError `malformed`, `untrusted`, `try-later`, `configuration`; then nothing changed
 */
export async function acceptPayload(
  payload: Uint8Array,
  config: Config,
  deps: AcceptDeps,
): Promise<{ update: UpdateId; decision: Decision }> {
  const offer = await parsePayload(payload);
  verifyOffer(offer, config, () => currentKeySet(config));
  const { update } = offer;
  // Before the stored facts are looked at: one that another handler stores in between is then the
  // same, and not one that is as new as the mark.
  const held = new HeldUpdates(config);
  const mark = markFor(held, update);
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
    now: deps.now,
    buildTime: deps.buildTime,
  });
  const fact = { payload: offer.text, acceptedAt: isoTime(deps.now) };
  try {
    switch (decision.kind) {
      case 'accept':
        // Two handlers at once: the one that comes second finds the fact and decides again.
        if (!keepAccepted(config.stateDir, update, fact))
          return await acceptPayload(payload, config, deps);
        break;
      case 'ring':
        if (stored === 'damaged') repairAccepted(config.stateDir, update, fact);
        ringAccepted(config.stateDir, update);
        break;
      case 'wait':
        // One for each channel: what is for others, or a trial, must not take its place.
        if (roleOfUpdate(config, update).role === 'active')
          keepPending(config.stateDir, update, offer.text);
        break;
      case 'refuse':
        // A bare torrent proves nothing: nobody signed it.
        if (stored === 'other' && offer.source === 'announcement')
          keepEquivocation(held, update, offer.text, deps.now);
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
