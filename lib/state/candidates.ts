import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { verifyOffer } from './accept.ts';
import { keySetChannel } from '../announcement/fields.ts';
import type { Config } from '../config.ts';
import { maxChannels } from './decide.ts';
import { commandHint } from '../command-hint.ts';
import { UpdateError, describeError } from '../errors.ts';
import { currentKeySet, readChained } from './key-chain.ts';
import type { KeySet } from '../trust/key-set.ts';
import { roleOf } from './high-water-mark.ts';
import { listAccepted, readAccepted } from './facts.ts';
import { parsePayload, updateKey, type Update, type UpdateId } from '../announcement/update.ts';

/** The updates of a node's announcements, split by what is to be done with them. */
export interface VerifiedUpdates {
  /** The newest of each channel that this node should run, and a noop that is newer still. */
  current: Update[];
  /** What must not go on. */
  ended: EndedUpdate[];
  /** What can be neither used nor ended now: damaged, or of a key set that has yet to come. */
  unusable: { id: UpdateId; reason: string }[];
}

export interface EndedUpdate {
  id: UpdateId;
  state: 'SUPERSEDED' | 'WITHDRAWN';
  reason: string;
  /** The keys that signed it are trusted no more; it may be signed again by others. */
  isRevoked?: boolean;
  /** It is for other nodes, to which this one may have to seed it. */
  isForOthers?: boolean;
}

/** No more announcements of one channel are looked at, the newest: others may write into the store. */
const maxPerChannel = 128;

/**
 * Reads the accepted announcements and verifies them again: keys change, disks rot, and the apply
 * side trusts neither the handler nor advance.
 *
 * What is newest and cannot be trusted any more leaves its channel without an update: an older one
 * must not come back.
 */
export async function loadVerified(config: Config): Promise<VerifiedUpdates> {
  let known: KeySet | undefined;
  const keySet = (): KeySet => (known ??= currentKeySet(config));
  const channels = new Map<string, UpdateId[]>();
  for (const id of listAccepted(config.stateDir).reverse()) {
    const held = channels.get(id.channel);
    if (held !== undefined) held.push(id);
    else if (id.channel === keySetChannel || isFollowed(config, id.channel, channels.size))
      channels.set(id.channel, [id]);
  }
  const candidates: VerifiedUpdates = { current: [], ended: [], unusable: [] };
  for (const [channel, held] of channels) {
    const newest = held.slice(0, maxPerChannel);
    await (channel === keySetChannel
      ? chooseKeySets(config, keySet, newest, candidates)
      : choose(config, keySet, newest, candidates));
  }
  return candidates;
}

function isStored({ stateDir }: Config, id: UpdateId): boolean {
  return existsSync(join(stateDir, 'announcements', updateKey(id)));
}

function isFollowed({ channels }: Config, channel: string, known: number): boolean {
  return known <= maxChannels && channels?.includes(channel) !== false;
}

/** One channel; `held` has the newest first. */
async function choose(
  config: Config,
  keySet: () => KeySet,
  held: readonly UpdateId[],
  candidates: VerifiedUpdates,
): Promise<void> {
  const { current, ended } = candidates;
  let newest: { id: UpdateId; state: EndedUpdate['state']; reason: string } | undefined;
  let noop: UpdateId | undefined;
  for (const id of held) {
    if (newest !== undefined) {
      ended.push({ ...newest, id });
      continue;
    }
    const { role } = roleOf(config, id);
    if (role === 'not-targeted') {
      const reason = 'this node is not its target (any more)';
      ended.push({ id, state: 'SUPERSEDED', reason, isForOthers: true });
      continue;
    }
    if (role === 'noop' && noop !== undefined) {
      ended.push({ id, state: 'SUPERSEDED', reason: `noop ${noop.version} is newer` });
      continue;
    }
    const update = await readVerified(config, keySet, id);
    // Advance prunes what is past, and the apply side does not hold its lock.
    if (update instanceof UpdateError && !isStored(config, id)) continue;
    if (update instanceof UpdateError) classifyUnverified(candidates, id, update);
    else current.push(update);
    // What it would supersede waits, and is not ended: nobody can tell what it is to this node.
    if (update instanceof UpdateError && update.code !== 'untrusted') return;
    if (role === 'noop') noop = id;
    else if (update instanceof UpdateError || update.kind !== 'withdraw')
      newest = { id, state: 'SUPERSEDED', reason: 'a newer version was accepted' };
    else newest = { id, state: 'WITHDRAWN', reason: `withdrawn by version ${id.version}` };
  }
}

/**
 * Key sets do not supersede each other: a node that was away needs every one of them. Those of the
 * past are proven by the chain, since their signers may be trusted no more.
 */
async function chooseKeySets(
  config: Config,
  keySet: () => KeySet,
  held: readonly UpdateId[],
  candidates: VerifiedUpdates,
): Promise<void> {
  const { current } = candidates;
  for (const id of held) {
    if (id.version <= keySet().epoch) {
      const stored = readAccepted(config.stateDir, id);
      if (stored === undefined) continue;
      if (readChained(config.applyDir, id.version)?.payload !== stored.payload) continue;
      current.push((await parsePayload(Buffer.from(stored.payload))).update);
      continue;
    }
    const update = await readVerified(config, keySet, id);
    if (update instanceof UpdateError) classifyUnverified(candidates, id, update);
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

/** What an announcement says, which may be trusted no more; undefined when it is damaged. */
export async function readUnverified(config: Config, id: UpdateId): Promise<Update | undefined> {
  const stored = readAccepted(config.stateDir, id);
  if (stored === undefined) return undefined;
  try {
    const { update } = await parsePayload(Buffer.from(stored.payload));
    return updateKey(update) === updateKey(id) ? update : undefined;
  } catch (error) {
    if (error instanceof UpdateError) return undefined;
    throw error;
  }
}

/** @returns why it cannot be used, as an error */
async function readVerified(
  config: Config,
  keySet: () => KeySet,
  id: UpdateId,
): Promise<Update | UpdateError> {
  const stored = readAccepted(config.stateDir, id);
  const damaged = `the announcement ${updateKey(id)} is damaged`;
  const hint = `the same bytes repair it, sent again from where it was submitted: ${commandHint('submit', '--resend')}`;
  if (stored === undefined) return new UpdateError('malformed', damaged, { hint });
  try {
    const offer = await parsePayload(Buffer.from(stored.payload));
    verifyOffer(offer, config, keySet);
    // A file's name is what its writer chose; the signature covers the fields.
    if (updateKey(offer.update) === updateKey(id)) return offer.update;
    return new UpdateError('malformed', damaged, { hint });
  } catch (error) {
    // Without usable keys the node can judge nothing at all.
    if (error instanceof UpdateError && error.code !== 'configuration') return error;
    throw error;
  }
}
