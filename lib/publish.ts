import { mkdirSync, readFileSync, renameSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import type { Config } from './config.ts';
import { fsyncDirectory, replaceDurably } from './durable.ts';
import { UpdateError } from './errors.ts';
import { decodeRecord, encodeRecord } from './record.ts';
import type { SerfClient } from './serf.ts';
import { listDirectory } from './store.ts';
import type { Submission } from './submission.ts';
import type { TransmissionClient } from './transmission.ts';
import {
  contentName,
  parseAnnouncement,
  parseUpdateKey,
  updateKey,
  type UpdateId,
} from './update.ts';

const checkPollMs = 100;
const checkBaseMs = 20_000;
/** A Raspberry Pi's card reads and hashes at least so fast. */
const checkBytesPerMs = 4_000;

/** What stays on disk of a submission, so that it can be sent again byte for byte. */
export interface PublishedUpdate extends UpdateId {
  payload: string;
  /** The .torrent, base64. */
  metainfo: string;
}

function announcementsDir(config: Config): string {
  return join(config.publishDir, 'announcements');
}

/**
 * Puts the content where the daemon seeds it from, and keeps the signed announcement; after this
 * the submission survives anything, and {@link sendUpdate} can be repeated.
 */
export async function publishContent(
  submission: Submission,
  config: Config,
): Promise<PublishedUpdate> {
  const { announcement, payload, metainfo, contentFile } = submission;
  const content = await open(contentFile, 'r');
  await content.sync().finally(() => content.close());
  renameSync(contentFile, join(config.publishDir, contentName(announcement)));
  fsyncDirectory(config.publishDir);
  mkdirSync(announcementsDir(config), { recursive: true, mode: 0o750 });
  const { channel, version } = announcement;
  const published = { channel, version, payload, metainfo: metainfo.toString('base64') };
  replaceDurably(join(announcementsDir(config), updateKey(announcement)), encodeRecord(published));
  return published;
}

/**
 * The announcement kept under `key`, or the newest one.
 *
 * @param key `channel@version` as submit printed it; undefined: the highest version of all
 * @throws UpdateError `usage` when there is none
 */
export function readPublished(config: Config, key: string | undefined): PublishedUpdate {
  const kept = listDirectory(announcementsDir(config)).flatMap(
    (name) => parseUpdateKey(name) ?? [],
  );
  kept.sort((a, b) => b.version - a.version);
  const wanted =
    key === undefined ? kept[0] : kept.find((id) => `${id.channel}@${id.version}` === key);
  if (wanted === undefined) {
    const known = kept.slice(0, 5).map(({ channel, version }) => `${channel}@${version}`);
    throw new UpdateError('usage', `no announcement ${key ?? ''} was kept here`, {
      hint: known.length > 0 ? `there are: ${known.join(', ')}` : 'submit a file first',
    });
  }
  const file = join(announcementsDir(config), updateKey(wanted));
  const record = decodeRecord(readFileSync(file, 'utf8'), file);
  if (record === undefined)
    throw new UpdateError('configuration', `the record ${file} is corrupt`, {
      hint: 'submit the file again',
    });
  return record.value as PublishedUpdate;
}

/**
 * Seeds a published update from this node and tells the fleet. Repeating it is harmless: the event
 * is the same bytes, which every node takes as done.
 *
 * @throws UpdateError `unavailable` when Transmission or Serf is down; nothing is lost then
 */
export async function sendUpdate(
  published: PublishedUpdate,
  config: Config,
  deps: { transmission: TransmissionClient; serf: SerfClient },
): Promise<void> {
  const { update } = parseAnnouncement(published.payload);
  const metainfo = Buffer.from(published.metainfo, 'base64');
  await deps.transmission.add({ metainfo, downloadDir: config.publishDir });
  await untilSeeding(update.infoHash, update.length, config, deps.transmission);
  await deps.serf.sendEvent('update', published.payload);
}

/** Nodes that hear of content which nobody has yet would stall: the daemon checks it first. */
async function untilSeeding(
  infoHash: string,
  length: number,
  config: Config,
  transmission: TransmissionClient,
): Promise<void> {
  const deadline = performance.now() + checkBaseMs + length / checkBytesPerMs;
  for (;;) {
    const torrent = await transmission.get(infoHash);
    if (torrent?.percentDone === 1 && torrent.status === 'seeding') return;
    if (torrent?.status === 'stopped') await transmission.start(infoHash);
    const failed = torrent?.error !== undefined && torrent.error !== '';
    if (failed || performance.now() > deadline)
      throw new UpdateError(
        'unavailable',
        `Transmission does not seed the content in ${config.publishDir}${failed ? `: ${torrent.error}` : ''}`,
        {
          hint: 'its user must be able to read "publishDir"; then send again with submit --resend',
        },
      );
    await new Promise((resolve) => setTimeout(resolve, checkPollMs));
  }
}
