import { keySetChannel } from '../../announcement/fields.ts';
import { idOf, looksLikeTorrent, parseAnnouncement } from '../../announcement/update.ts';
import type { Config } from '../../config.ts';
import { describeError, UpdateError } from '../../errors.ts';
import type { Holding } from '../../query/holdings.ts';
import { acceptPayload } from '../../state/accept.ts';
import type { Clock } from '../../state/high-water-mark.ts';
import { currentKeySet } from '../../state/key-chain.ts';
import type { LoggedEvent } from '../../system/event-log.ts';

/** Verdict on an announcement that a neighbour delivered. */
export type Verdict =
  /** It is held now, or was already. */
  | 'taken'
  /** The same, and it will change the trusted keys. */
  | 'key set'
  /** It needs a later key set. */
  | 'waits'
  /** These signed bytes are refused, from any neighbour. */
  | 'refused'
  /** Another copy of these signed bytes may have better signatures. */
  | 'forged';

export type TakeDeps = Clock & {
  log: (event: Omit<LoggedEvent, 'handler'>) => void;
};

/**
 * Judges and stores an announcement from a neighbour exactly as one that came by event, and logs it.
 *
 * @param from the neighbour's name, printable
 * @throws UpdateError `configuration` when this node cannot verify anything
 */
export async function acceptFromNeighbour(
  item: Holding,
  from: string,
  config: Config,
  deps: TakeDeps,
): Promise<Verdict> {
  const tell = (decision: string, reason: string): void => {
    deps.log({ decision, reason: `${reason}, from ${from}`, ...idOf(item) });
  };
  try {
    const { decision } = await acceptPayload(Buffer.from(item.payload), config, deps);
    tell(decision.kind, decision.reason);
    if (decision.kind === 'refuse' || decision.kind === 'wait') return 'refused';
    return item.channel === keySetChannel ? 'key set' : 'taken';
  } catch (error) {
    if (!(error instanceof UpdateError) || error.code === 'configuration') throw error;
    const isLater = error.code === 'try-later';
    tell(isLater ? 'wait' : 'refuse', describeError(error));
    if (isLater) return 'waits';
    return error.code === 'untrusted' && isFaultOfBody(item, config) ? 'refused' : 'forged';
  }
}

/**
 * Whether no signatures could make these bytes trusted. Otherwise the neighbour alone is to blame: it
 * may have corrupted the signatures of an announcement that others hold intact.
 */
function isFaultOfBody({ payload }: Holding, config: Config): boolean {
  if (looksLikeTorrent(Buffer.from(payload))) return true;
  const { announcement, signers } = parseAnnouncement(payload).signed;
  const { rootKeys, rootThreshold, releaseKeys, releaseThreshold } = currentKeySet(config);
  const isRoots = announcement.kind === 'keyset';
  const trusted = isRoots
    ? rootKeys.map(({ id }) => id)
    : releaseKeys
        .filter(({ channels }) => channels?.includes(announcement.channel) !== false)
        .map(({ key }) => key.id);
  const threshold = isRoots ? rootThreshold : releaseThreshold;
  return signers.length < threshold || !signers.every((id) => trusted.includes(id));
}
