import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { keySetChannel } from '../../lib/announcement/fields.ts';
import { buildMetainfo } from '../../lib/announcement/metainfo.ts';
import { nameOf, parseAnnouncement } from '../../lib/announcement/update.ts';
import type { Config } from '../../lib/config.ts';
import { commandHint } from '../../lib/command-hint.ts';
import { UpdateError } from '../../lib/errors.ts';
import { readAccepted } from '../../lib/state/facts.ts';
import { requireAcceptable } from '../../lib/submit/acceptance.ts';
import { deliver, publishContent, type Sent } from '../../lib/submit/publish.ts';
import { listPublished, readPublished } from '../../lib/submit/published.ts';
import { completePayload, type KeyProposal } from '../../lib/trust/key-proposal.ts';
import type { KeySet } from '../../lib/trust/key-set.ts';
import { withWorkDirectory } from '../cli/work-directory.ts';

/**
 * Publishes the key set of a complete proposal and tells the fleet.
 *
 * @returns the payload, and how it was sent
 * @throws UpdateError `refused` when it is not complete, or when another key set of the same epoch was
 *   sent: nodes that hear of either first would not take the other
 */
export async function sendProposal(
  proposal: KeyProposal,
  current: KeySet,
  config: Config,
  nowSeconds: number,
): Promise<{ payload: string; sent: Sent }> {
  const payload = checkSendable(proposal, current, config, nowSeconds);
  const sent = await withWorkDirectory(config.publishDir, async (workDir) => {
    const { announcement, text } = proposal;
    const isNew = !isKept(config, announcement.version);
    const contentFile = join(workDir, announcement.name);
    writeFileSync(contentFile, text);
    // Transmission's user has to read it, whatever the umask is.
    chmodSync(contentFile, 0o644);
    const metainfo = buildMetainfo(announcement);
    const published = await publishContent(
      { announcement, payload, metainfo, contentFile },
      config,
    );
    return deliver(published, config, isNew);
  });
  return { payload, sent };
}

/** The payload to send; throws as {@link sendProposal} does, before anything is written. */
export function checkSendable(
  proposal: KeyProposal,
  current: KeySet,
  config: Config,
  nowSeconds: number,
): string {
  const payload = completePayload(proposal, current);
  const id = { channel: keySetChannel, version: proposal.next.epoch };
  const time = { seconds: null, by: '' };
  requireAcceptable(proposal.announcement, { newest: current.epoch, time }, config, nowSeconds);
  const known = [
    isKept(config, id.version) ? readPublished(config, id).payload : undefined,
    readAccepted(config.stateDir, id)?.payload,
  ];
  for (const other of known) {
    if (other === undefined) continue;
    const { body } = parseAnnouncement(other);
    if (Buffer.compare(body, proposal.body) === 0) continue;
    throw new UpdateError(
      'refused',
      `another key set ${id.version} was sent to the fleet already`,
      {
        hint: `wait until it is in force here, and make the change on top of it; to repeat it: ${commandHint('submit', '--resend', nameOf(id))}`,
      },
    );
  }
  return payload;
}

function isKept(config: Config, epoch: number): boolean {
  return listPublished(config).some(
    ({ channel, version }) => channel === keySetChannel && version === epoch,
  );
}
