import { readFileSync } from 'node:fs';
import type { Config } from '../../config.ts';
import { UpdateError } from '../../errors.ts';
import { currentKeySet, keepKeySet, readChained } from '../../state/key-chain.ts';
import { parseKeySet } from '../../trust/key-set.ts';
import type { ApplyResult } from '../../daemons/puppet/puppet.ts';
import type { Update } from '../../announcement/update.ts';

/**
 * Makes the next key set the one that this node trusts. The announcement, which the caller has
 * verified, is the signature of the root keys in force over these bytes; here is checked that the
 * bytes are the next link of this fleet's chain.
 *
 * @param copy the verified copy of the content, which nobody else can write
 * @throws UpdateError `malformed` when it is not; `configuration` when the keys in force cannot be read
 */
export function takeUpKeySet(config: Config, update: Update, copy: string): ApplyResult {
  const text = readFileSync(copy, 'latin1');
  const next = parseKeySet(text);
  const now = currentKeySet(config);
  const done = { ok: true, exitCode: null, changed: null, failed: null };
  // An interruption came between the chain and the outcome.
  if (readChained(config.applyDir, update.version)?.payload === update.payload)
    return { ...done, reason: `key set ${update.version} is in force` };
  if (next.fleet !== now.fleet || next.epoch !== update.version || next.epoch !== now.epoch + 1)
    throw new UpdateError(
      'malformed',
      `it is key set ${next.epoch} of fleet ${next.fleet}; fleet ${now.fleet} needs ${now.epoch + 1}`,
      { hint: 'make key sets with scripts/keys.ts' },
    );
  keepKeySet(config.applyDir, next.epoch, { text, payload: update.payload });
  return { ...done, reason: `key set ${next.epoch} is in force`, changed: 1 };
}
