import type { Announcement } from '../../../lib/announcement/fields.ts';
import { contentName, updateKey } from '../../../lib/announcement/update.ts';
import { encodeRecord } from '../../../lib/system/record.ts';
import { makeKeys, signAnnouncement, type TestKeys } from '../fleet/announce.ts';
import { applyDir, downloadDir, type ProductionNode, stateDir } from './fleet.ts';
import type { SplitNode } from './node.ts';
import { announcementOf } from '../fleet/wire.ts';

/** An announcement with its content, as the user who holds a node may put it there. */
export interface Offer {
  announcement: Announcement;
  payload: string;
  content: Buffer;
  /** Its effect, were it applied: the file that its manifest writes. */
  mark: string;
}

/** Keys of an attacker, for the right fleet. */
export const strangersKeys = makeKeys('test-fleet');

/** A manifest that writes `text` to a file of root's, signed. */
export function offerOf(
  keys: TestKeys,
  channel: string,
  change: Partial<Announcement> = {},
  text = 'applied',
): Offer {
  const mark = `/root/mark-${channel}`;
  const content = Buffer.from(`file { '${mark}': content => '${text}' }\n`);
  const named = { kind: 'manifest', name: 'site.pp', channel, ...change } as const;
  const announcement = announcementOf(content, named);
  return { announcement, payload: signAnnouncement(announcement, keys), content, mark };
}

export const recordFile = ({ announcement }: Offer): string =>
  `${stateDir}/announcements/${updateKey(announcement)}`;
export const contentFile = ({ announcement }: Offer): string =>
  `${downloadDir}/${contentName(announcement)}`;
export const markerFile = ({ announcement }: Offer): string =>
  `${applyDir}/complete/${announcement.infoHash}`;

/** An attacker who has become p2p-update's user on a node, with all that this user can do. */
export class Attacker {
  readonly #machine: SplitNode;

  constructor({ machine }: ProductionNode) {
    this.#machine = machine;
  }

  async does(script: string, input: string | Buffer = ''): Promise<void> {
    const { status, stderr } = await this.#machine.shell('p2p-update', script, { input });
    if (status !== 0) throw new Error(`${script}: ${stderr}`);
  }

  /** Writes a file, or replaces it. */
  async writes(file: string, content: string | Buffer): Promise<void> {
    await this.does(`rm -f '${file}' && cat > '${file}'`, content);
  }

  /** The record, the content and the mark, as if all had come by the ordinary way. */
  async plants(offer: Offer, content = offer.content): Promise<void> {
    await this.plantsRecord(offer);
    await this.writes(contentFile(offer), content);
    await this.rings(offer);
  }

  async plantsRecord({ payload, ...offer }: Offer, file = recordFile({ payload, ...offer })) {
    await this.writes(file, encodeRecord({ payload, acceptedAt: new Date().toISOString() }));
  }

  async rings(offer: Offer): Promise<void> {
    await this.does(`: > '${markerFile(offer)}'`);
  }
}

/**
 * Describes all that is root's on a machine and that an apply could change: names, owners, modes, sizes,
 * links and times. Outcomes, logs and locks are apply's to write.
 */
export async function rootsFiles({ machine }: ProductionNode): Promise<string> {
  const places = `/etc /root /home /opt/p2p-update/dist /var/lib/p2p-update`;
  const apart = ['state', 'apply/complete', 'apply/outcomes'].map(
    (name) => `-path /var/lib/p2p-update/${name} -prune -o`,
  );
  const quiet = '-name events.log -o -name apply.lock -o -path /var/lib/p2p-update/apply/staging';
  const format = '%p %y %m %U:%G %s %C@ %l\\n';
  const script = `find ${places} ${apart.join(' ')} ${quiet} -o -printf '${format}' | sort`;
  const { status, stdout, stderr } = await machine.shell('root', script);
  if (status !== 0) throw new Error(stderr);
  return stdout;
}
