import { keySetChannel } from '../announcement/fields.ts';
import { isExpired, type Update, type UpdateId } from '../announcement/update.ts';
import { buildTime, softwareVersion } from '../build.ts';
import type { Config } from '../config.ts';
import { describeError } from '../errors.ts';
import { ownChecks, tryKeySet } from '../health/own-checks.ts';
import { equivocationOf, type EquivocationState, listEquivocated } from '../state/equivocation.ts';
import { maxReadPerChannel } from '../state/facts.ts';
import { HeldUpdates } from '../state/held.ts';
import { roleOfUpdate } from '../state/high-water-mark.ts';
import type { Progress } from '../state/progress.ts';
import type { Download } from './downloads.ts';
import { describeWithdrawn, lastAppliedOf, progressOf } from './own-records.ts';
import type { NodeState } from './update-status.ts';

/** Summary of a member: all its pages together. */
export interface NodeSummary extends NodeFacts {
  channels: ChannelFacts[];
}

/** Facts of a whole node, by its own word. */
export interface NodeFacts {
  /** The version of p2p-update. */
  software: string;
  /** Of the key set in force; null when there is none that can be used. */
  epoch: number | null;
  /** Creation of the newest announcement that the node holds, unix seconds; null: it holds none. */
  newestCreated: number | null;
  /** It follows the channels that it lists, and no other. */
  isLimited: boolean;
  /** Fault that keeps the whole node from taking updates; '': none. */
  fault: string;
  /** Its clock, unix seconds; undefined: that of version 0.2.0 is not told. */
  clock?: number;
}

/** Facts of one channel on a node, by its own word. Noops do not count. */
export interface ChannelFacts {
  channel: string;
  /** The highest version that it holds, for any target; 0: none. */
  newest: number;
  /** That version may not be applied any more, so a node without it cannot get it. */
  isNewestExpired: boolean;
  /** The newest update that is meant for this node is a withdrawal. */
  isWithdrawal: boolean;
  equivocation: EquivocationState;
  /** The version whose content was applied last; 0: none. */
  lastApplied: number;
  /** The newest update that is meant for this node; null: there is none. */
  current: CurrentUpdate | null;
}

export interface CurrentUpdate {
  version: number;
  state: NodeState;
  /** Start of this state, unix seconds. */
  since: number;
  reason: string;
  /** The last run of Puppet. */
  run: RunResult | null;
  /** Of one that is QUEUED or STALLED; null: any other, or Transmission was not asked. */
  download: Download | null;
}

export type RunResult = Record<'exitCode' | 'changed' | 'failed', number | null>;

/** Facts of this node, and its channels, each of which is read when it is asked for. */
export interface OwnFacts {
  facts: NodeFacts;
  /** In the order of their names; none when the announcements cannot be listed. */
  channels: { name: string; read: (nowSeconds: number) => OwnChannel }[];
}

export interface OwnChannel {
  facts: ChannelFacts;
  /** Info hash of the torrent that its current update waits for; null: it waits for none. */
  awaited: string | null;
}

interface HeldAnnouncement {
  update: Pick<Update, 'channel' | 'target' | 'noop' | 'expires' | 'kind'>;
  /** Unix seconds, both. */
  created: number;
  acceptedAt: number;
}

/**
 * Collects the facts of this node; a part that cannot be read is named as a fault, and hides no other.
 *
 * @param nowSeconds unix seconds
 */
export function nodeFacts(config: Config, nowSeconds: number): OwnFacts {
  let unlisted: string | undefined;
  let own: { held: HeldUpdates; name: string }[] = [];
  try {
    const held = new HeldUpdates(config);
    own = followedChannels(held).map((name) => ({ held, name }));
  } catch (error) {
    unlisted = describeError(error);
  }
  const keySet = tryKeySet(config);
  const epoch = 'keySet' in keySet ? keySet.keySet.epoch : null;
  const created = own.flatMap(({ held, name }) => newestCreated(held, name) ?? []);
  const newest = created.length === 0 ? null : Math.max(...created);
  // The date of a key set proves nothing (lib/state/decide.ts).
  const dates = own.flatMap(({ held, name }) =>
    name === keySetChannel ? [] : (newestCreated(held, name) ?? []),
  );
  const witness = dates.length === 0 ? null : Math.max(...dates);
  const checks = ownChecks(config, { keySet, newestCreated: witness, nowSeconds, buildTime });
  const faults = checks.filter(({ verdict }) => verdict === 'fail').map(({ what }) => what);
  const facts = {
    software: softwareVersion,
    epoch,
    newestCreated: newest,
    isLimited: config.channels !== null,
    fault: [...faults, ...(unlisted === undefined ? [] : [unlisted])].join('; '),
    clock: nowSeconds,
  };
  const channels = own.map(({ held, name }) => ({
    name,
    read: (nowSeconds: number) => channelFacts(held, name, epoch, nowSeconds),
  }));
  return { facts, channels };
}

function followedChannels(held: HeldUpdates): string[] {
  const { stateDir, channels: followed } = held.config;
  const names = [...held.channels.keys(), ...(followed ?? []), ...listEquivocated(stateDir)];
  return [...new Set(names)]
    .filter((name) => name === keySetChannel || followed?.includes(name) !== false)
    .sort();
}

function newestCreated(held: HeldUpdates, channel: string): number | undefined {
  const [newest] = held.inChannel(channel);
  return newest && readHeld(held, newest)?.created;
}

/** Reads the facts of one channel; `epoch` is that of the key set in force. */
function channelFacts(
  held: HeldUpdates,
  channel: string,
  epoch: number | null,
  nowSeconds: number,
): OwnChannel {
  const { config } = held;
  let newest: { version: number; isExpired: boolean } | undefined;
  let current: CurrentUpdate | null = null;
  let awaited: string | null = null;
  let isWithdrawal = false;
  for (const id of held.inChannel(channel).slice(0, maxReadPerChannel)) {
    const announcement = readHeld(held, id);
    // A damaged one counts as active: ignoring it could bring back an older update.
    const role =
      announcement === undefined ? 'active' : roleOfUpdate(config, announcement.update).role;
    if (announcement?.update.noop === true) continue;
    newest ??= {
      version: id.version,
      isExpired: announcement !== undefined && isExpired(announcement.update, nowSeconds),
    };
    if (role !== 'active') continue;
    isWithdrawal = announcement?.update.kind === 'withdraw';
    current = currentOf(config, id, announcement, epoch);
    if (current.state === 'QUEUED' || current.state === 'STALLED')
      awaited = infoHashOf(progressOf(config, id));
    break;
  }
  const facts = {
    channel,
    newest: newest?.version ?? 0,
    isNewestExpired: newest?.isExpired ?? false,
    isWithdrawal,
    equivocation: equivocationOf(held, channel),
    lastApplied: lastAppliedOf(config, channel),
    current,
  };
  return { facts, awaited };
}

function currentOf(
  config: Config,
  id: UpdateId,
  announcement: HeldAnnouncement | undefined,
  epoch: number | null,
): CurrentUpdate {
  const { version } = id;
  const since = announcement?.acceptedAt ?? 0;
  const progress = progressOf(config, id);
  const none = { version, since, run: null, download: null };
  const damaged = (reason: string): CurrentUpdate => ({ ...none, state: 'DAMAGED', reason });
  if (typeof progress === 'string') return damaged(progress);
  // Neither side goes on with an announcement that it cannot verify again.
  if (announcement === undefined && progress?.state !== 'APPLIED')
    return damaged('its announcement is damaged');
  if (progress !== undefined) {
    const current = { ...none, ...describeProgress(progress) };
    return announcement?.update.kind === 'withdraw' && progress.state === 'APPLIED'
      ? { ...current, state: 'WITHDRAWN', reason: describeWithdrawn(config, id) }
      : current;
  }
  // A key set that was placed at set-up has no record.
  if (id.channel === keySetChannel && version <= (epoch ?? 0))
    return { ...none, state: 'APPLIED', reason: 'in force' };
  return { ...none, state: 'ACCEPTED', reason: 'accepted' };
}

function infoHashOf(progress: Progress | string | undefined): string | null {
  return typeof progress === 'object' ? progress.infoHash : null;
}

function describeProgress({
  state,
  at,
  reason,
  run,
}: Progress): Pick<CurrentUpdate, 'state' | 'since' | 'reason' | 'run'> {
  const since = Math.floor(Date.parse(at[state] ?? '') / 1000);
  return {
    state,
    since: Number.isFinite(since) ? since : 0,
    reason,
    run: run && { exitCode: run.exitCode, changed: run.changed, failed: run.failed },
  };
}

/** Reads a held announcement from its text alone, unverified; undefined when it is damaged. */
function readHeld(held: HeldUpdates, id: UpdateId): HeldAnnouncement | undefined {
  const stored = held.stored(id);
  if (stored === undefined) return undefined;
  const acceptedAt = Math.floor(Date.parse(stored.acceptedAt) / 1000);
  if (held.isTorrent(id)) {
    const { channel, version: created } = id;
    const fields = { kind: null, target: '', noop: false, expires: null };
    return { update: { channel, ...fields }, created, acceptedAt };
  }
  const announcement = held.announcement(id);
  if (announcement === undefined) return undefined;
  const { update } = announcement;
  return { update, created: update.created, acceptedAt };
}
