import { keySetChannel } from '../announcement/fields.ts';
import { type Offer, parsePayload, type UpdateId } from '../announcement/update.ts';
import type { Config } from '../config.ts';
import { commandHint } from '../command-hint.ts';
import { stateError, UpdateError } from '../errors.ts';
import type { KeySet } from '../trust/key-set.ts';
import { verifyAnnouncement } from '../trust/verify.ts';
import { decide, type Decision } from './decide.ts';
import { keepEquivocation } from './equivocation.ts';
import {
  keepAccepted,
  keepPending,
  listAccepted,
  readAccepted,
  repairAccepted,
  ringAccepted,
} from './facts.ts';
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
  const mark = markFor(config, update);
  const stored = await compareStored(offer, config);
  const accepted = listAccepted(config.stateDir);
  const decision = decide({
    kind: update.kind,
    channel: update.channel,
    version: update.version,
    created: offer.source === 'announcement' ? offer.signed.announcement.created : update.version,
    expires: update.expires,
    length: update.length,
    isForUs: roleOfUpdate(config, update).role !== 'not-targeted',
    stored: stored === 'damaged' ? 'same' : stored,
    mark,
    knownChannels: new Set(
      accepted.map((id) => id.channel).filter((name) => name !== keySetChannel),
    ),
    allowedChannels: config.channels,
    maxContentBytes: config.maxContentBytes,
    now: deps.now,
    buildTime: deps.buildTime,
  });
  const fact = { payload: offer.text, acceptedAt: new Date(deps.now * 1000).toISOString() };
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
          keepEquivocation(config, update, offer.text, deps.now);
        break;
      default:
        decision satisfies never;
    }
  } catch (error) {
    throw stateError(error, config.stateDir);
  }
  return { update, decision };
}

/**
 * Checks that an offer comes from somebody whom this node trusts.
 *
 * @param keySet asked for a signed offer only: a closed lab may have no keys
 *
 * @throws UpdateError `untrusted`, `try-later` (an epoch above ours)
 */
export function verifyOffer(
  offer: Offer,
  { allowUnsigned }: Pick<Config, 'allowUnsigned'>,
  keySet: () => KeySet,
): void {
  if (offer.source === 'announcement') {
    verifyAnnouncement(offer.signed, keySet());
    return;
  }
  if (!allowUnsigned)
    throw new UpdateError('untrusted', 'this is a bare .torrent without a signature', {
      hint: `only a closed lab may set "allowUnsigned"; to sign it and send it: ${commandHint('submit', 'FILE')}`,
    });
}

async function compareStored(
  offer: Offer,
  config: Config,
): Promise<'none' | 'same' | 'other' | 'damaged'> {
  const { stateDir } = config;
  const held = readAccepted(stateDir, offer.update);
  if (held === undefined) {
    const exists = listAccepted(stateDir).some(
      ({ channel, version }) =>
        channel === offer.update.channel && version === offer.update.version,
    );
    return exists ? 'damaged' : 'none';
  }
  const { body } = await parsePayload(Buffer.from(held.payload));
  return Buffer.compare(body, offer.body) === 0 ? 'same' : 'other';
}
