import { join } from 'node:path';
import { keySetChannel } from '../announcement/fields.ts';
import { parseUpdateKey } from '../announcement/update.ts';
import type { Config } from '../config.ts';
import { commandHint } from '../command-hint.ts';
import { UpdateError } from '../errors.ts';
import { listDirectory } from '../system/directory.ts';
import { createDurably } from '../system/durable-write.ts';
import { decodeRecord, encodeRecord } from '../system/record.ts';
import { readRegularFile } from '../system/regular-file.ts';
import { type KeySet, parseKeySet } from '../trust/key-set.ts';
import { keySetsDir, outcomesDir } from './layout.ts';
import { readProgress } from './progress.ts';

/** More than a key set and its announcement can have. */
const maxKeySetBytes = 2 ** 15;

/** One link of the chain: a key set, and the announcement by which its predecessor's roots signed it. */
export interface ChainedKeySet {
  /** Canonical key-set text. */
  text: string;
  /** The announcement's text. */
  payload: string;
}

/**
 * The key set that this node trusts now: the newest of the one placed at set-up and those that the
 * apply side has activated since, one epoch at a time. Both are root's; no other user can add one.
 *
 * @throws UpdateError `configuration` when the newest is missing or cannot be used: an earlier one
 *   must not come back, or a key that was removed would be trusted again
 */
export function currentKeySet(config: Pick<Config, 'keySetFile' | 'applyDir'>): KeySet {
  const { keySetFile, applyDir } = config;
  const first = readFirst(keySetFile);
  const newest = listEpochs(applyDir).at(-1) ?? 0;
  const epoch = Math.max(first.epoch, newest);
  const lost = appliedAbove(applyDir, epoch);
  if (lost !== undefined)
    throw unusable(`key set ${lost} was in force on this node, and is gone from ${applyDir}`);
  if (first.epoch >= newest) return first;
  const link = readChained(applyDir, newest);
  if (link === undefined) throw unusable(`key set ${newest} in ${keySetsDir(applyDir)} is damaged`);
  const keySet = parseKeySet(link.text);
  if (keySet.epoch !== newest || keySet.fleet !== first.fleet)
    throw unusable(`key set ${newest} in ${keySetsDir(applyDir)} is of fleet ${keySet.fleet}`);
  return keySet;
}

/** The epoch of the key set in force; 0 without a usable one, as in a closed lab. */
export function epochOf(config: Config): number {
  try {
    return currentKeySet(config).epoch;
  } catch (error) {
    if (error instanceof UpdateError) return 0;
    throw error;
  }
}

/** Keeps the next key set of the chain, durably; the same one again is no fault. */
export function keepKeySet(applyDir: string, epoch: number, link: ChainedKeySet): void {
  createDurably(chainFile(applyDir, epoch), encodeRecord(link), 0o644);
}

/** Reads a link of the chain; undefined when this node does not have it, or when it is damaged. */
export function readChained(applyDir: string, epoch: number): ChainedKeySet | undefined {
  const file = chainFile(applyDir, epoch);
  const bytes = readRegularFile(file, { maxBytes: maxKeySetBytes });
  if (typeof bytes === 'string') return undefined;
  return decodeRecord(bytes.toString(), file)?.value as ChainedKeySet | undefined;
}

/** Lists the epochs of the chain, ascending; the key set placed at set-up is not among them. */
export function listEpochs(applyDir: string): number[] {
  return listDirectory(keySetsDir(applyDir))
    .filter((name) => /^\d{10}$/.test(name))
    .map(Number)
    .sort((a, b) => a - b);
}

/** An epoch above `epoch` whose key set was applied on this node: the chain never goes back. */
function appliedAbove(applyDir: string, epoch: number): number | undefined {
  const directory = outcomesDir(applyDir);
  return listDirectory(directory)
    .filter((name) => name.startsWith(`${keySetChannel}@`))
    .flatMap((name) => parseUpdateKey(name) ?? [])
    .find((id) => id.version > epoch && readProgress(directory, id)?.state === 'APPLIED')?.version;
}

function readFirst(file: string): KeySet {
  try {
    const bytes = readRegularFile(file, { maxBytes: maxKeySetBytes, followLinks: true });
    if (typeof bytes !== 'string') return parseKeySet(bytes.toString());
    // The code by which own-checks.ts tells this from a file that is in the way.
    if (bytes === 'absent') throw Object.assign(new Error('it does not exist'), { code: 'ENOENT' });
    throw new Error('it is no regular file, or a larger one than any key set');
  } catch (cause) {
    throw new UpdateError('configuration', `the key set ${file} cannot be used`, {
      hint: 'place the keyset.txt that p2p-update keygen made there',
      cause,
    });
  }
}

function unusable(message: string): UpdateError {
  return new UpdateError('configuration', message, {
    hint: `place the newest key set of the fleet in "keySetFile"; another node prints it: ${commandHint('keys', 'list', '--text')}`,
  });
}

function chainFile(applyDir: string, epoch: number): string {
  return join(keySetsDir(applyDir), String(epoch).padStart(10, '0'));
}
