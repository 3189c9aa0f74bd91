import { keySetChannel } from '../announcement/fields.ts';
import type { Update, UpdateId } from '../announcement/update.ts';
import { describeError, UpdateError } from '../errors.ts';
import type { KeySet } from '../trust/key-set.ts';
import { maxReadPerChannel } from './facts.ts';
import { HeldUpdates } from './held.ts';
import { roleOf } from './high-water-mark.ts';
import { currentKeySet, readChained } from './key-chain.ts';

/** Updates of the held announcements, split by how the pass goes on with them. */
export interface VerifiedUpdates {
  /** The newest of each channel that targets this node, and a noop that is newer still. */
  current: Update[];
  /** Updates that must not go on. */
  ended: EndedUpdate[];
  /** Updates that can be neither used nor ended now: damaged, or of a key set that has yet to come. */
  unusable: { id: UpdateId; reason: string }[];
}

export interface EndedUpdate {
  id: UpdateId;
  state: 'SUPERSEDED' | 'WITHDRAWN';
  reason: string;
  /** Its signing keys are trusted no more; other keys may sign it again. */
  isRevoked?: boolean;
  /** It targets other nodes, to which this one may have to seed it. */
  isForOthers?: boolean;
}

/**
 * Verifies the accepted announcements again: keys change, disks rot, and the apply side trusts neither
 * the handler nor advance.
 *
 * A channel whose newest update is trusted no more is left without one: an older update must not come
 * back (docs/trust.md#key-sets).
 */
export async function loadVerified(held: HeldUpdates): Promise<VerifiedUpdates> {
  const { config } = held;
  let known: KeySet | undefined;
  const keySet = (): KeySet => (known ??= currentKeySet(config));
  const updates: VerifiedUpdates = { current: [], ended: [], unusable: [] };
  for (const [channel, ids] of held.channels) {
    const newest = ids.slice(0, maxReadPerChannel);
    if (channel === keySetChannel) await classifyKeySets(held, keySet, newest, updates);
    else if (config.channels?.includes(channel) !== false)
      await classifyChannel(held, keySet, newest, updates);
  }
  return updates;
}

/** Adds the updates of one channel; `ids` has the newest first. */
async function classifyChannel(
  held: HeldUpdates,
  keySet: () => KeySet,
  ids: readonly UpdateId[],
  updates: VerifiedUpdates,
): Promise<void> {
  const { current, ended } = updates;
  let newest: { id: UpdateId; state: EndedUpdate['state']; reason: string } | undefined;
  let noop: UpdateId | undefined;
  for (const id of ids) {
    if (newest !== undefined) {
      ended.push({ ...newest, id });
      continue;
    }
    const { role } = roleOf(held, id);
    if (role === 'not-targeted') {
      const reason = 'this node is not its target (any more)';
      ended.push({ id, state: 'SUPERSEDED', reason, isForOthers: true });
      continue;
    }
    if (role === 'noop' && noop !== undefined) {
      ended.push({ id, state: 'SUPERSEDED', reason: `noop ${noop.version} is newer` });
      continue;
    }
    const update = await held.verified(id, keySet);
    // Pruned meanwhile by advance, whose lock the apply side does not hold.
    if (update instanceof UpdateError && !held.has(id)) continue;
    if (update instanceof UpdateError) classifyUnverified(updates, id, update);
    else current.push(update);
    // Older updates wait and are not ended: whether this one supersedes them cannot be told yet.
    if (update instanceof UpdateError && update.code !== 'untrusted') return;
    if (role === 'noop') noop = id;
    else if (update instanceof UpdateError || update.kind !== 'withdraw')
      newest = { id, state: 'SUPERSEDED', reason: 'a newer version was accepted' };
    else newest = { id, state: 'WITHDRAWN', reason: `withdrawn by version ${id.version}` };
  }
}

/**
 * Adds the key sets, which do not supersede each other: a node that was away needs every one of them.
 * Past ones are proven by the chain, since their signers may be trusted no more.
 */
async function classifyKeySets(
  held: HeldUpdates,
  keySet: () => KeySet,
  ids: readonly UpdateId[],
  updates: VerifiedUpdates,
): Promise<void> {
  const { current } = updates;
  for (const id of ids) {
    if (id.version <= keySet().epoch) {
      const payload = held.stored(id)?.payload;
      if (payload === undefined) continue;
      if (readChained(held.config.applyDir, id.version)?.payload !== payload) continue;
      const offer = await held.offer(id);
      if (offer !== undefined) current.push(offer.update);
      continue;
    }
    const update = await held.verified(id, keySet);
    if (update instanceof UpdateError) classifyUnverified(updates, id, update);
    else current.push(update);
  }
}

function classifyUnverified(
  { ended, unusable }: VerifiedUpdates,
  id: UpdateId,
  error: UpdateError,
): void {
  const reason = describeError(error);
  if (error.code === 'untrusted') ended.push({ id, state: 'WITHDRAWN', reason, isRevoked: true });
  else unusable.push({ id, reason });
}
