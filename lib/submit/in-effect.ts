import { keySetChannel } from '../announcement/fields.ts';
import { nameOf, parseAnnouncement, type UpdateId } from '../announcement/update.ts';
import type { Config } from '../config.ts';
import { hasErrno, UpdateError } from '../errors.ts';
import { chooseServed, itemOf, listHoldings } from '../query/holdings.ts';
import { HeldUpdates } from '../state/held.ts';
import type { KeySet } from '../trust/key-set.ts';
import { verificationFault } from '../trust/verify.ts';
import { isOfFuture, listPublished, readPublished } from './published.ts';

/** An update that is in effect on some nodes, by what is known here. */
export interface UpdateInEffect extends UpdateId {
  kind: string;
  target: string;
  /** It was submitted on this machine, so that it can be signed again here. */
  isKept: boolean;
  /** The key set trusts its signers. */
  isTrusted: boolean;
}

/**
 * Lists the updates that are in effect, those that were submitted here and those that this node holds: of each
 * channel and target the newest, unless it has expired or a newer one for all nodes supersedes it. Without key
 * sets and noops. Each channel's oldest comes first: signed again in this order they stay in their order, and a
 * node that several are for ends at the same one.
 *
 * @param nowSeconds unix seconds
 */
export async function listInEffect(
  config: Config,
  keySet: KeySet,
  nowSeconds: number,
): Promise<UpdateInEffect[]> {
  const kept = listPublished(config)
    .map((id) => readPublished(config, id))
    .filter((published) => !isOfFuture(published, nowSeconds));
  const keptNames = new Set(kept.map(nameOf));
  const items = await Promise.all(kept.map(({ payload }) => itemOf(payload)));
  const held = await readHeld(config);
  const all = [...items, ...held.filter(({ key }) => !keptNames.has(key))];
  return chooseServed(all, nowSeconds)
    .flatMap(({ channel, version, key, payload }): UpdateInEffect[] => {
      if (channel === keySetChannel) return [];
      const offer = parseOrUndefined(payload);
      // A bare torrent has no signature.
      if (offer === undefined || offer.update.noop) return [];
      const { kind, target } = offer.signed.announcement;
      const isTrusted = verificationFault(offer.signed, keySet) === undefined;
      return [{ channel, version, kind, target, isKept: keptNames.has(key), isTrusted }];
    })
    .sort((a, b) =>
      a.channel < b.channel ? -1 : a.channel > b.channel ? 1 : a.version - b.version,
    );
}

/** Nothing where this user may not read it: what was submitted here is known all the same. */
async function readHeld(config: Config): ReturnType<typeof listHoldings> {
  try {
    return await listHoldings(new HeldUpdates(config));
  } catch (error) {
    if (error instanceof UpdateError || hasErrno(error, 'EACCES', 'EPERM')) return [];
    throw error;
  }
}

function parseOrUndefined(payload: string) {
  try {
    return parseAnnouncement(payload);
  } catch (error) {
    if (error instanceof UpdateError) return undefined;
    throw error;
  }
}
