import { isoTime } from '../system/iso-time.ts';

/** The number of channels that a node holds at most; more would be somebody's flood. */
export const maxChannels = 64;
/** How far a version may lie above the newest seen or the clock: one signer's slip must not use up all versions. */
export const maxVersionStep = 2 ** 20;
/** How far the submitter's clock may be ahead of ours, in seconds. */
export const maxClockLeadSeconds = 600;

/** What the decision rests on; nothing else is looked at. Times are unix seconds. */
export interface DecisionInput {
  kind: string | null;
  channel: string;
  version: number;
  /** null for a bare torrent, whose version is its creation date. */
  created: number;
  expires: number | null;
  length: number;
  /** Whether its target includes this node; otherwise it is only kept, to be served. */
  isForUs: boolean;
  /** How the stored announcement of the same channel and version compares, if there is one. */
  stored: 'none' | 'same' | 'other';
  /** The version that it has to be above (lib/state/high-water-mark.ts); 0 when there is none. */
  mark: number;
  /** The channels that this node has facts of. */
  knownChannels: ReadonlySet<string>;
  /** The channels that this node's configuration allows; null: all. */
  allowedChannels: readonly string[] | null;
  maxContentBytes: number;
  now: number;
  /** When this software was built: a clock before it is wrong. */
  buildTime: number;
}

/** What to do with a verified offer. */
export type Decision =
  | { kind: 'accept'; reason: string }
  /** Nothing new, but wake the reconciler all the same: something may have been lost. */
  | { kind: 'ring'; reason: string }
  /** Keep it aside and look again once the clock is right. */
  | { kind: 'wait'; reason: string; hint: string }
  | { kind: 'refuse'; reason: string; hint: string };

/**
 * The newest-version check and every other rule that needs no I/O (design: section 6), for an offer
 * whose signatures are verified. The order is by version, never by date.
 */
export function decide(input: DecisionInput): Decision {
  const { channel, version, stored, mark, now } = input;
  const refuse = (reason: string, hint: string): Decision => ({ kind: 'refuse', reason, hint });

  if (input.kind !== 'keyset' && input.allowedChannels?.includes(channel) === false)
    return refuse(
      `this node does not follow channel ${channel}`,
      'nothing to do, or add the channel to "channels" in the configuration',
    );
  // Bytes of the past are a replay like any other older version.
  if (stored === 'same' && version >= mark) return { kind: 'ring', reason: 'already accepted' };
  if (stored === 'other')
    return refuse(
      `equivocation: version ${version} of ${channel} was signed twice with different content`,
      'find out who signed the second one, then submit a higher version, which heals it',
    );
  if (version <= mark)
    return refuse(
      `version ${version} is older than ${mark}, the newest of channel ${channel}`,
      'submit it again to give it a newer version',
    );
  if (input.isForUs && input.length > input.maxContentBytes)
    return refuse(
      `its content has ${input.length} bytes, this node takes at most ${input.maxContentBytes}`,
      'raise "maxContentBytes" in the configuration, or split the update',
    );
  const isNewChannel = !input.knownChannels.has(channel) && input.kind !== 'keyset';
  if (isNewChannel && input.knownChannels.size >= maxChannels)
    return refuse(
      `this node holds ${maxChannels} channels already`,
      'use an existing channel, or limit "channels" in the configuration',
    );

  // From here on the clock matters; a wrong one must neither pass nor reject anything.
  if (now < input.buildTime)
    return {
      kind: 'wait',
      reason: `the clock says ${isoTime(now)}, before this software was built`,
      hint: 'set the clock (NTP); the announcement is kept and looked at again then',
    };
  if (input.created > now + maxClockLeadSeconds)
    return refuse(
      `it was created ${input.created - now} s in the future`,
      'set the clocks of the submitter and of this node (NTP), then submit again',
    );
  if (input.expires !== null && input.expires <= now)
    return refuse(`it expired at ${isoTime(input.expires)}`, 'submit it again');
  if (version > Math.max(mark, now) + maxVersionStep)
    return refuse(
      `version ${version} is more than ${maxVersionStep} above ${Math.max(mark, now)}`,
      'submit with a version near the newest one, or without naming one',
    );
  if (!input.isForUs) return { kind: 'accept', reason: 'kept for others: not a target' };
  return { kind: 'accept', reason: mark === 0 ? 'first of its channel' : `newer than ${mark}` };
}
