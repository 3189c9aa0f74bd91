import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { isChannel } from '../announcement/fields.ts';
import type { UpdateId } from '../announcement/update.ts';
import { UpdateError } from '../errors.ts';
import { listDirectory } from '../system/directory.ts';
import { removeLeftOvers, replaceDurably } from '../system/durable-write.ts';
import { isoTime } from '../system/iso-time.ts';
import { decodeRecord, encodeRecord } from '../system/record.ts';
import { readRegularFile } from '../system/regular-file.ts';
import type { HeldUpdates } from './held.ts';
import { roleOf } from './high-water-mark.ts';
import { equivocationsDir, rareStateDirectories } from './layout.ts';

/** Proof that trusted keys signed one version of a channel twice, with different content. */
export interface Equivocation {
  version: number;
  /** The announcement that was refused; the other one is held. */
  payload: string;
  /** ISO 8601. */
  seenAt: string;
}

/** Whether a channel has an equivocation that is not healed; `unknown`: its record is damaged. */
export type EquivocationState = 'none' | 'seen' | 'unknown';

/** A payload of 2,048 bytes, its frame, and as much again. */
const maxBytes = 8192;

/**
 * Keeps a refused announcement as proof: one file a channel, of its highest version. Writes nothing
 * when that is known or healed already.
 *
 * @param payload text of a verified announcement
 * @param nowSeconds unix seconds
 */
export function keepEquivocation(
  held: HeldUpdates,
  id: UpdateId,
  payload: string,
  nowSeconds: number,
): void {
  const { config } = held;
  const directory = equivocationsDir(config.stateDir);
  const file = join(directory, id.channel);
  if (isHealed(held, id)) return;
  const known = readEquivocation(config.stateDir, id.channel);
  if (known !== undefined && known !== 'damaged' && known.version >= id.version) return;
  mkdirSync(directory, { recursive: true, mode: rareStateDirectories.equivocations.mode });
  const fact: Equivocation = {
    version: id.version,
    payload,
    seenAt: isoTime(nowSeconds),
  };
  replaceDurably(file, encodeRecord(fact));
}

/** State of a channel's equivocation, by its record and the held announcements. */
export function equivocationOf(held: HeldUpdates, channel: string): EquivocationState {
  const known = readEquivocation(held.config.stateDir, channel);
  if (known === undefined) return 'none';
  if (known === 'damaged') return 'unknown';
  return isHealed(held, { channel, version: known.version }) ? 'none' : 'seen';
}

/** Channels with a record of an equivocation, healed or not. */
export function listEquivocated(stateDir: string): string[] {
  return listDirectory(equivocationsDir(stateDir)).filter(isChannel);
}

/**
 * Removes the records that a higher version has healed; a damaged one stays until a person removes it.
 * To be called under the advance lock.
 *
 * @param nowSeconds unix seconds
 */
export function removeHealed(held: HeldUpdates, nowSeconds: number): void {
  const { stateDir } = held.config;
  const directory = equivocationsDir(stateDir);
  if (listDirectory(directory).length === 0) return;
  removeLeftOvers(directory, nowSeconds * 1000);
  for (const channel of listEquivocated(stateDir))
    if (equivocationOf(held, channel) === 'none') rmSync(join(directory, channel), { force: true });
}

/**
 * Whether a higher version is held that supersedes the equivocated one on its nodes: one for this node,
 * or, where it targeted others, one with the same target. A noop changes no node, so it heals none.
 */
function isHealed(held: HeldUpdates, { channel, version }: UpdateId): boolean {
  const higher = held.inChannel(channel).filter((id) => id.version > version);
  // Only a superseded announcement is ever pruned (lib/state/retention.ts).
  if (!held.has({ channel, version })) return higher.length > 0;
  const was = roleOf(held, { channel, version });
  return higher
    .map((id) => roleOf(held, id))
    .some(
      (is) =>
        is.role === 'active' ||
        (is.role === 'not-targeted' &&
          !is.noop &&
          was.role === 'not-targeted' &&
          is.target === was.target),
    );
}

function readEquivocation(stateDir: string, channel: string): Equivocation | 'damaged' | undefined {
  const file = join(equivocationsDir(stateDir), channel);
  try {
    const bytes = readRegularFile(file, { maxBytes });
    if (bytes === 'absent') return undefined;
    const value = bytes === 'invalid' ? undefined : decodeRecord(bytes.toString(), file)?.value;
    // The digest shows that we wrote it, and the format number that we know its shape.
    return value === undefined ? 'damaged' : (value as Equivocation);
  } catch (error) {
    // Of a later format, or unreadable: no sign that nothing was seen.
    if (error instanceof UpdateError) return 'damaged';
    throw error;
  }
}
