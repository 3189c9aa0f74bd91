import type { Config } from '../config.ts';
import { UpdateError } from '../errors.ts';
import type { KeySet } from '../trust/key-set.ts';
import { listPublished, readPublished } from './publish.ts';
import { verifyAnnouncement } from '../trust/verify.ts';
import { isExpired, nameOf, parseAnnouncement, type UpdateId } from '../announcement/update.ts';

/** An announcement kept here that nodes will not take any more under another key set. */
export interface DueRenewal extends UpdateId {
  /** What an operator types to sign it again. */
  command: string;
}

/**
 * What must be signed again once `next` is in force: of each channel, target and noop the newest
 * announcement kept here, where it is not expired and `next` does not trust its signers.
 *
 * @param now unix seconds
 */
export function listDueRenewals(next: KeySet, config: Config, now: number): DueRenewal[] {
  const seen = new Set<string>();
  return listPublished(config).flatMap((id) => {
    const { signed, update } = parseAnnouncement(readPublished(config, id).payload);
    const { channel, target, noop, kind } = signed.announcement;
    const slot = JSON.stringify([channel, target, noop]);
    if (kind === 'keyset' || seen.has(slot)) return [];
    seen.add(slot);
    if (isExpired(update, now)) return [];
    try {
      verifyAnnouncement(signed, next);
      return [];
    } catch (error) {
      if (!(error instanceof UpdateError)) throw error;
      const aim = target === '' ? '' : ` --target '${target.replaceAll("'", `'\\''`)}'`;
      const again = kind === 'withdraw' ? `--withdraw ${channel}${aim}` : `--renew ${nameOf(id)}`;
      return [{ ...id, command: `submit.ts ${again}` }];
    }
  });
}
