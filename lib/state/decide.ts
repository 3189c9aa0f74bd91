import { isoTime } from '../system/iso-time.ts';

/** Channels that a node holds at most: a limit against floods. */
export const maxChannels = 64;
/** Largest step of a version above the newest seen or the clock: one signer's slip must not use up all versions. */
export const maxVersionStep = 2 ** 20;
/** Tolerated lead of the submitter's clock over this node's, in seconds. */
export const maxClockLeadSeconds = 600;

/**
 * Whether a version can only come from a clock that was far ahead: no node whose clock is right has taken
 * it. A version that was chosen by hand is no sign of that.
 *
 * @param at unix seconds: creation of the announcement, or the last step of its record; undefined: damaged
 */
export function isAheadOfTime(
  { version, at }: { version: number; at: number | undefined },
  nowSeconds: number,
): boolean {
  if (version <= nowSeconds + maxVersionStep) return false;
  return at === undefined || at > nowSeconds + maxClockLeadSeconds;
}

/** Everything that the decision rests on. Times are unix seconds. */
export interface DecisionInput {
  kind: string | null;
  channel: string;
  version: number;
  /** null for a bare torrent, whose version is its creation date. */
  created: number;
  expires: number | null;
  length: number;
  /** Whether its target includes this node; otherwise it is only kept, to be served to others. */
  isForUs: boolean;
  /** Comparison with the stored announcement of the same channel and version. */
  stored: 'none' | 'same' | 'other';
  /** High-water mark, which the version has to exceed (lib/state/high-water-mark.ts); 0: none. */
  mark: number;
  /** The channels that this node has facts of. */
  knownChannels: ReadonlySet<string>;
  /** The channels that this node's configuration allows; null: all. */
  allowedChannels: readonly string[] | null;
  maxContentBytes: number;
  nowSeconds: number;
  /** Build of this software: a clock before it is wrong. */
  buildTime: number;
}

/** Decision on a verified offer. */
export type Decision =
  | { kind: 'accept'; reason: string }
  /** Nothing new; the reconciler is woken all the same, since something may have been lost. */
  | { kind: 'ring'; reason: string }
  /** Kept aside, to be decided again once the clock is right. */
  | { kind: 'wait'; reason: string; hint: string }
  | { kind: 'refuse'; reason: string; hint: string };

/**
 * Applies every rule of acceptance that needs no I/O to an offer whose signatures are verified; among
 * them that versions only rise (docs/announcement.md#versions). The order is by version, never by date.
 */
export function decide(input: DecisionInput): Decision {
  const { channel, version, stored, mark, nowSeconds } = input;
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

  // From here on the clock matters; a wrong one must neither accept nor refuse anything.
  if (nowSeconds < input.buildTime)
    return {
      kind: 'wait',
      reason: `the clock says ${isoTime(nowSeconds)}, before this software was built`,
      hint: 'set the clock (NTP); the announcement is kept and looked at again then',
    };
  // The date of a key set proves nothing: its order is that of epochs, and no later one can follow without it.
  if (input.kind !== 'keyset' && input.created > nowSeconds + maxClockLeadSeconds)
    return refuse(
      `it was created ${input.created - nowSeconds} s in the future`,
      'set the clocks of the submitter and of this node (NTP), then submit again',
    );
  if (input.expires !== null && input.expires <= nowSeconds)
    return refuse(`it expired at ${isoTime(input.expires)}`, 'submit it again');
  if (version > Math.max(mark, nowSeconds) + maxVersionStep)
    return refuse(
      `version ${version} is more than ${maxVersionStep} above ${Math.max(mark, nowSeconds)}`,
      'submit with a version near the newest one, or without naming one',
    );
  if (!input.isForUs) return { kind: 'accept', reason: 'kept for others: not a target' };
  return { kind: 'accept', reason: mark === 0 ? 'first of its channel' : `newer than ${mark}` };
}
