import { mkdirSync, renameSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { withAnnounceUrl } from '../announcement/metainfo.ts';
import { contentName, nameOf, parseAnnouncement, updateKey } from '../announcement/update.ts';
import type { Config } from '../config.ts';
import { connectSerf, type SerfClient } from '../daemons/serf/client.ts';
import { connectTransmission, type TransmissionClient } from '../daemons/transmission/client.ts';
import { type AnnounceServer, lastReply, serveAnnounces } from '../daemons/transmission/tracker.ts';
import { commandHint } from '../command-hint.ts';
import { UpdateError } from '../errors.ts';
import { fsyncDirectory, replaceDurably } from '../system/durable-write.ts';
import { encodeRecord } from '../system/record.ts';
import { OwnNode } from './own-node.ts';
import { announcementsDir, type PublishedUpdate } from './published.ts';
import type { Submission } from './submission.ts';

const checkPollMs = 100;
const checkBaseMs = 20_000;
/** Least speed of Transmission's check: a Raspberry Pi with its card. */
const checkBytesPerMs = 4_000;
/** Transmission announces within 1 s of a torrent's start. */
const announceMs = 2_000;

export interface SendDeps {
  /** Called only when there is content: an emergency stop must work while Transmission is down. */
  transmission: () => TransmissionClient;
  serf: SerfClient;
}

/**
 * Moves the content into the publish directory and keeps the signed announcement. From then on the
 * submission survives a crash or power cut, and {@link sendUpdate} can be repeated.
 */
export async function publishContent(
  submission: Submission,
  config: Config,
): Promise<PublishedUpdate> {
  const { announcement, payload, metainfo, contentFile } = submission;
  if (contentFile !== null) {
    const content = await open(contentFile, 'r');
    await content.sync().finally(() => content.close());
    renameSync(contentFile, join(config.publishDir, contentName(announcement)));
    fsyncDirectory(config.publishDir);
  }
  mkdirSync(announcementsDir(config), { recursive: true, mode: 0o750 });
  const { channel, version } = announcement;
  const torrent = metainfo === null ? null : metainfo.toString('base64');
  const published = { channel, version, payload, metainfo: torrent };
  replaceDurably(join(announcementsDir(config), updateKey(announcement)), encodeRecord(published));
  return published;
}

/** A sent announcement: its event has come to this node's own handler. */
export interface Sent {
  /** Time of the event: Transmission is waited for before it, and after. */
  at: Date;
  /** Whether this node holds it; false where it follows other channels. */
  isHeldHere: boolean;
}

/**
 * Sends a kept announcement by way of this node's daemons, and sees that this node takes it.
 *
 * @param isNew whether it has never been sent
 * @throws UpdateError as {@link sendUpdate} does, and `try-later` when this node has refused the announcement or
 *   not heard of it; the hint has the command that sends it again
 */
export async function deliver(
  published: PublishedUpdate,
  config: Config,
  isNew: boolean,
): Promise<Sent> {
  const serf = connectSerf(config.serf);
  const own = new OwnNode(published, config, serf);
  let at: Date;
  try {
    at = await sendUpdate(published, config, {
      transmission: () => connectTransmission(config.transmission),
      serf,
    });
  } catch (cause) {
    if (!(cause instanceof UpdateError)) throw cause;
    const name = nameOf(published);
    throw new UpdateError(
      cause.code,
      `${name} is signed and kept, but was not sent: ${cause.message}`,
      {
        hint: `${cause.hint}; then: ${commandHint('submit', '--resend', name)}`,
        ...(cause.cause === undefined ? {} : { cause: cause.cause }),
      },
    );
  }
  const verdict = await own.verdict(isNew);
  if (verdict.kind === 'taken' || verdict.kind === 'not followed')
    return { at, isHeldHere: verdict.kind === 'taken' };
  const name = nameOf(published);
  const fault =
    verdict.kind === 'refused'
      ? `this node has refused it: ${verdict.reason}`
      : `this node's own handler has not taken it, so nobody may have heard of it${
          verdict.refusal === undefined ? '' : `; its last refusal: ${verdict.refusal}`
        }`;
  throw new UpdateError('try-later', `${name} is signed and kept, but ${fault}`, {
    hint: `${commandHint('doctor')}; then: ${commandHint('submit', '--resend', name)}`,
  });
}

/**
 * Seeds a published update from this node and sends its event. Repeating it is harmless: the event is the
 * same bytes, for which a node that has them has nothing to do.
 *
 * @returns when Serf was given the event, which proves not that anybody heard it
 * @throws UpdateError `unavailable` when Transmission or Serf is down; nothing is lost then
 */
export async function sendUpdate(
  published: PublishedUpdate,
  config: Config,
  deps: SendDeps,
): Promise<Date> {
  const sendEvent = async (): Promise<Date> => {
    const sentAt = new Date();
    await deps.serf.sendEvent('update', published.payload);
    return sentAt;
  };
  if (published.metainfo !== null) {
    const { update } = parseAnnouncement(published.payload);
    const metainfo = Buffer.from(published.metainfo, 'base64');
    const transmission = deps.transmission();
    const answer = await answerAnnounce(update.infoHash);
    try {
      const torrent = withAnnounceUrl(metainfo, answer.url);
      const added = await transmission.add({ metainfo: torrent, downloadDir: config.publishDir });
      await untilSeeding(update.infoHash, update.length, config, transmission);
      const sentAt = await sendEvent();
      if (added === 'added') await answer.given();
      return sentAt;
    } finally {
      await answer.close();
    }
  }
  return sendEvent();
}

/**
 * Answers the announce that Transmission makes when a torrent starts, and without peers: they do not have
 * the update yet. The node's own advance names them some seconds later, by the same URL.
 *
 * @returns `given` waits until it was answered, 2 s at most
 */
async function answerAnnounce(
  infoHash: string,
): Promise<AnnounceServer & { given: () => Promise<void> }> {
  let give: () => void = () => undefined;
  const answered = new Promise<void>((resolve) => (give = resolve));
  const server = await serveAnnounces({
    infoHash,
    reply: () => {
      give();
      return Promise.resolve(lastReply);
    },
    log: () => undefined,
  });
  const given = (): Promise<void> =>
    Promise.race([answered, sleep(announceMs, undefined, { ref: false })]);
  return { ...server, given };
}

/** Waits until Transmission has checked the content and seeds it: nodes would stall on it before. */
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
          hint: 'its user must be able to read "publishDir"',
        },
      );
    await sleep(checkPollMs);
  }
}
