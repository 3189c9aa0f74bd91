import type { SerfClient } from '../../daemons/serf/client.ts';
import { formatRequest, latestQuery, reseedTaken } from '../../query/latest.ts';
import { asciiOnly } from '../../system/printable.ts';

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
  const names = (await serf.members())
    .filter(({ status, name }) => status === 'alive' && name !== self)
    .filter(({ address }) => seeds.includes(address))
    .map(({ name }) => ({ name, rank: Math.random() }))
    .sort((a, b) => a.rank - b.rank);
  for (const { name } of names.slice(0, maxAsked)) {
    const request = formatRequest({ kind: 'reseed', infoHash });
    const answer = (await serf.query(latestQuery, request, querySeconds, [name])).get(name);
    const isTaken = answer?.trim() === reseedTaken;
    const shown = asciiOnly(name.slice(0, 64));
    log(`gets nothing: ${isTaken ? 'asked' : 'in vain asked'} ${shown} to add ${infoHash} anew`);
    if (isTaken) return;
  }
}
