import type { SerfClient } from '../../daemons/serf/client.ts';
import { shownName } from '../../daemons/serf/members.ts';
import { shuffle } from '../../daemons/transmission/tracker.ts';
import { formatRequest, latestQuery, reseedTaken } from '../../query/latest.ts';

/** Time for one answer: Serf waits for the whole of it. */
const querySeconds = 2;
/** Members asked in one go, one after another, until one has the content. */
const maxAsked = 3;

/**
 * Asks one of the seeds of a torrent, by chance, to add it anew (lib/reconciler/advance/reseed.ts); one that
 * does not answer, or does not have it, is followed by another one.
 *
 * @param seeds addresses of members whose daemons have the whole content
 * @param log receives what was asked
 */
export async function askReseed(
  serf: Pick<SerfClient, 'members' | 'selfName' | 'query'>,
  infoHash: string,
  seeds: readonly string[],
  log: (reason: string) => void,
): Promise<void> {
  const self = await serf.selfName();
  const members = (await serf.members()).filter(
    ({ status, name, address }) => status === 'alive' && name !== self && seeds.includes(address),
  );
  for (const { name } of shuffle(members).slice(0, maxAsked)) {
    const request = formatRequest({ kind: 'reseed', infoHash });
    const answer = (await serf.query(latestQuery, request, querySeconds, [name])).get(name);
    const isTaken = answer?.trim() === reseedTaken;
    log(
      `gets nothing: ${isTaken ? 'asked' : 'in vain asked'} ${shownName(name)} to add ${infoHash} anew`,
    );
    if (isTaken) return;
  }
}
