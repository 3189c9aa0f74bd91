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

/** What a node has to tell of a channel; `unknown`: the fact is there, and damaged. */
export type EquivocationState = 'none' | 'seen' | 'unknown';

/** A payload of 2,048 bytes, its frame, and as much again. */
const maxBytes = 8192;

/**
 * Keeps what a refused announcement proves: one file a channel, of its highest version. What is healed
 * already, or known already, changes nothing.
 *
 * @param payload of a verified announcement
 */
export function keepEquivocation(
  held: HeldUpdates,
  id: UpdateId,
  payload: string,
  now: number,
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
    seenAt: isoTime(now),
  };
  replaceDurably(file, encodeRecord(fact));
}

/** Whether a channel was equivocated on, and nothing has healed it yet. */
export function equivocationOf(held: HeldUpdates, channel: string): EquivocationState {
  const known = readEquivocation(held.config.stateDir, channel);
  if (known === undefined) return 'none';
  if (known === 'damaged') return 'unknown';
  return isHealed(held, { channel, version: known.version }) ? 'none' : 'seen';
}

/** The channels that have a fact, healed or not. */
export function listEquivocated(stateDir: string): string[] {
  return listDirectory(equivocationsDir(stateDir)).filter(isChannel);
}

/**
 * Removes the facts that a higher version has healed; one that is damaged stays until a person takes it
 * away. To be called under the advance lock.
 *
 * @param now unix seconds
 */
export function removeHealed(held: HeldUpdates, now: number): void {
  const { stateDir } = held.config;
  const directory = equivocationsDir(stateDir);
  if (listDirectory(directory).length === 0) return;
  removeLeftOvers(directory, now * 1000);
  for (const channel of listEquivocated(stateDir))
    if (equivocationOf(held, channel) === 'none') rmSync(join(directory, channel), { force: true });
}

/**
 * True once a higher version is held that the nodes of the equivocated one go by: one for this node, or,
 * where it was for others, one for the same others. A noop changes no node, so it heals none.
 */
function isHealed(held: HeldUpdates, { channel, version }: UpdateId): boolean {
  const higher = held.inChannel(channel).filter((id) => id.version > version);
  // Only what is superseded, for the nodes that it was for, is ever taken out.
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
    const value = bytes === 'unfit' ? undefined : decodeRecord(bytes.toString(), file)?.value;
    // The digest shows that we wrote it, and the format number that we know its shape.
    return value === undefined ? 'damaged' : (value as Equivocation);
  } catch (error) {
    // Of a later format, or unreadable: neither says that nothing was seen.
    if (error instanceof UpdateError) return 'damaged';
    throw error;
  }
}
