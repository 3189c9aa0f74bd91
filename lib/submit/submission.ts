import { statSync } from 'node:fs';
import {
  allowsNoop,
  type Announcement,
  isContentName,
  keySetChannel,
  type Kind,
} from '../announcement/fields.ts';
import { buildMetainfo, choosePieceLength } from '../announcement/metainfo.ts';
import { nameOf } from '../announcement/update.ts';
import type { Config } from '../config.ts';
import type { ContentKind } from '../announcement/fields.ts';
import { describeContent } from '../content/hash-content.ts';
import { checkManifest } from '../daemons/puppet/puppet.ts';
import { commandHint } from '../command-hint.ts';
import { UpdateError } from '../errors.ts';
import { currentKeySet } from '../state/key-chain.ts';
import { printable } from '../system/printable.ts';
import { checkPieceRoom, loadSigners, signAnnouncement } from '../trust/signing.ts';
import { fittingName, submitAgain } from './again.ts';
import { checkContentSize, takeInput } from './input.ts';
import { requireAcceptable, surveyFleet } from './acceptance.ts';
import { chooseVersion, type FleetVersions, newestUpdate } from './known-updates.ts';

/** An operator's request; times in unix seconds. */
export interface SubmitRequest {
  file: string;
  /** The words after `submit`, for hints; without them it is the file alone. */
  words?: readonly string[] | undefined;
  /** The kind that the operator says; without it the content has to be plainly of one. */
  kind?: ContentKind | undefined;
  channel?: string | undefined;
  name?: string | undefined;
  version?: number | undefined;
  notBefore: number;
  expires: number;
  rerun: boolean;
  noop: boolean;
  /** Checked already; '' is every node. */
  target: string;
}

/** A signed announcement and its content, ready to be published. */
export interface Submission {
  announcement: Announcement;
  /** The payload of the event. */
  payload: string;
  /** The .torrent; null without content. */
  metainfo: Buffer | null;
  /** The copy of the content in the work directory; null when there is no content to publish. */
  contentFile: string | null;
  /** Why the content is taken for its kind; undefined where that was said, or decided before. */
  why?: string | undefined;
}

/** Called while hashing. */
export type OnProgress = ((bytesDone: number, bytesTotal: number) => void) | undefined;

/**
 * Makes a signed announcement for a file or directory; nothing is sent or published yet.
 *
 * @param workDir an existing private directory, which gets a copy of the content: that copy is hashed and
 *   seeded, even if the original changes meanwhile
 * @throws UpdateError `usage` and `malformed` for input that no node would take, `refused` for a
 *   version that is not the newest, content that is too large, or a clock that is not the fleet's,
 *   `configuration` for keys
 */
export async function prepareSubmission(
  request: SubmitRequest,
  config: Config,
  workDir: string,
  nowSeconds: number,
  fleet: FleetVersions,
  onProgress?: OnProgress,
): Promise<Submission> {
  const keySet = currentKeySet(config);
  const input = await takeInput(request, request.kind, config.maxContentBytes, workDir);
  const name = request.name ?? input.name;
  checkName(name, request);
  if (request.noop) checkNoop(input.kind, name);
  if (input.kind === 'manifest') await checkManifest(input.path, request.file, config.puppet);

  const { target } = request;
  const channel = request.channel ?? input.channel;
  checkUpdateChannel(channel);
  const signers = loadSigners(config, keySet, channel);
  const maxChars = config.serf.maxPayloadChars;
  const pieceRoom = checkPieceRoom({ channel, name, target }, signers.length, maxChars);
  const { size } = statSync(input.path);
  checkContentSize(size, request.file, config.maxContentBytes);
  const [content, survey] = await Promise.all([
    describeContent(input.path, {
      name,
      pieceLength: choosePieceLength(size, pieceRoom),
      ...(onProgress === undefined ? {} : { onProgress }),
    }),
    surveyFleet(channel, config, fleet, nowSeconds),
  ]);

  const announcement: Announcement = {
    kind: input.kind,
    noop: request.noop,
    rerun: request.rerun,
    epoch: keySet.epoch,
    version: chooseVersion(request.version, survey.newest, channel, nowSeconds),
    created: nowSeconds,
    notBefore: request.notBefore,
    expires: request.expires,
    infoHash: content.infoHash,
    sha256: content.sha256,
    length: content.length,
    pieceLength: content.pieceLength,
    channel,
    name,
    target,
    pieces: content.pieces.length <= pieceRoom ? content.pieces : new Uint8Array(),
  };
  requireAcceptable(announcement, survey, config, nowSeconds);
  await warnOfRepeat(announcement, request.file, config, fleet);
  return {
    announcement,
    payload: signAnnouncement(announcement, signers, keySet.fleet),
    metainfo: buildMetainfo({ ...content, name }),
    contentFile: input.path,
    why: request.kind === undefined ? input.why : undefined,
  };
}

/**
 * Warns of content that the channel has already, for the same nodes: they will not run it again. A file is
 * delivered again where it is not as it was; another target, and a withdrawal since, are reasons to submit the same.
 */
async function warnOfRepeat(
  { kind, channel, sha256, target, noop, rerun }: Announcement,
  file: string,
  config: Config,
  { warn }: FleetVersions,
): Promise<void> {
  if (kind === 'file' || noop || rerun) return;
  const last = await newestUpdate(channel, config, (update) => !update.noop);
  if (last?.sha256 !== sha256 || last.target !== target) return;
  warn(
    `this is the content of ${nameOf(last)}, and nodes that have applied it do not run it again; to have it run: ${commandHint('submit', '--rerun', printable(file))}`,
  );
}

/**
 * Checks that a channel is not that of key sets, which release keys cannot sign for.
 *
 * @throws UpdateError `usage`
 */
export function checkUpdateChannel(channel: string): void {
  if (channel !== keySetChannel) return;
  throw new UpdateError('usage', `channel ${keySetChannel} is for key sets alone`, {
    hint: `choose another channel; the key set is changed by: ${commandHint('keys', '--help')}`,
  });
}

function checkNoop(kind: Kind, name: string): void {
  if (allowsNoop(kind)) return;
  throw new UpdateError('usage', `--noop has no meaning for ${name}, which is a ${kind}`, {
    hint: 'Puppet can try a manifest or an environment only',
  });
}

/** Checks a name, which reaches the disk of every node: no tool there may misread it. */
function checkName(name: string, request: SubmitRequest): void {
  if (isContentName(name)) return;
  const given = request.name === undefined ? 'the file is named' : '--name is';
  throw new UpdateError('usage', `${given} "${printable(name)}", which cannot be announced`, {
    hint: `a name has 1 to 64 of A-Z a-z 0-9 . _ + -, first a letter or digit; try: ${submitAgain(request, { name: fittingName(name) })}`,
  });
}
