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
import { deliver, publishContent } from '../../lib/submit/publish.ts';
import { listPublished, readPublished } from '../../lib/submit/published.ts';
import { completePayload, type KeyProposal } from '../../lib/trust/key-proposal.ts';
import type { KeySet } from '../../lib/trust/key-set.ts';
import { withWorkDirectory } from '../cli/work-directory.ts';

/**
 * Publishes the key set of a complete proposal and tells the fleet.
 *
 * @returns the payload that was sent, and when
 * @throws UpdateError `refused` when it is not complete, or when another key set of the same epoch was
 *   sent: nodes that hear of either first would not take the other
 */
export async function sendProposal(
  proposal: KeyProposal,
  current: KeySet,
  config: Config,
  nowSeconds: number,
): Promise<{ payload: string; sentAt: Date }> {
  const payload = checkSendable(proposal, current, config, nowSeconds);
  const sentAt = await withWorkDirectory(config.publishDir, async (workDir) => {
    const { announcement, text } = proposal;
    const contentFile = join(workDir, announcement.name);
    writeFileSync(contentFile, text);
    // Transmission's user has to read it, whatever the umask is.
    chmodSync(contentFile, 0o644);
    const metainfo = buildMetainfo(announcement);
    const published = await publishContent(
      { announcement, payload, metainfo, contentFile },
      config,
    );
    return deliver(published, config);
  });
  return { payload, sentAt };
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
  const kept = listPublished(config).some(
    ({ channel, version }) => channel === id.channel && version === id.version,
  );
  const known = [
    kept ? readPublished(config, id).payload : undefined,
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
