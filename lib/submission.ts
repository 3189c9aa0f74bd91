import { createPrivateKey, type KeyObject } from 'node:crypto';
import { constants, readFileSync, statSync } from 'node:fs';
import { chmod, copyFile, stat } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { highestVersion, readKeySet } from './accept.ts';
import { encodeAnnouncement, encodeBody, isContentName, pieceBudget } from './announcement.ts';
import type { Announcement } from './announcement.ts';
import type { Config } from './config.ts';
import { detectKind } from './detect.ts';
import { UpdateError, hasErrno } from './errors.ts';
import type { KeySet } from './keyset.ts';
import { describeContent } from './describe-content.ts';
import { buildMetainfo, choosePieceLength } from './metainfo.ts';
import { packDirectory } from './pack.ts';
import { checkManifest } from './puppet.ts';
import { publicKeyOf, signBody } from './signature.ts';
import { listAccepted } from './store.ts';

/** What a person asks for; times in unix seconds. */
export interface SubmitRequest {
  file: string;
  channel?: string | undefined;
  name?: string | undefined;
  version?: number | undefined;
  notBefore: number;
  expires: number;
  rerun: boolean;
}

/** A signed announcement and its content, ready to be published. */
export interface Submission {
  announcement: Announcement;
  /** The payload of the event. */
  payload: string;
  metainfo: Buffer;
  /** Our own copy of the content, in the work directory. */
  contentFile: string;
}

/**
 * Makes a signed announcement for a file or directory; nothing is sent or published yet.
 *
 * @param workDir an existing private directory, which gets our copy of the content: what is hashed
 *   is what is seeded, whatever happens to the original meanwhile
 * @param onProgress called while hashing, with bytes
 * @throws UpdateError `usage` and `malformed` for input that no node would take, `refused` for a
 *   version that is not the newest or content that is too large, `configuration` for keys
 */
export async function prepareSubmission(
  request: SubmitRequest,
  config: Config,
  workDir: string,
  now: number,
  onProgress?: (bytesDone: number, bytesTotal: number) => void,
): Promise<Submission> {
  const keySet = readKeySet(config.keySetFile);
  const input = await takeInput(request.file, config, workDir);
  const name = request.name ?? input.name;
  checkName(name, request);
  if (input.kind === 'manifest') await checkManifest(input.path, config.puppet);

  const channel = request.channel ?? input.channel;
  const signers = loadSigners(config, keySet, channel);
  const budget = { signers: signers.length, channel, name, target: '' };
  const maxChars = config.serf.maxPayloadChars;
  const pieceRoom = pieceBudget({ ...budget, maxChars });
  if (pieceRoom < 0)
    throw new UpdateError('malformed', `the announcement is ${-pieceRoom} bytes too long`, {
      hint: `shorten the name (${name.length} bytes) or the channel (${channel.length} bytes)`,
    });
  const { size } = statSync(input.path);
  checkSize(size, request.file, config.maxContentBytes);
  const content = await describeContent(input.path, {
    name,
    pieceLength: choosePieceLength(size, pieceRoom),
    ...(onProgress === undefined ? {} : { onProgress }),
  });

  const announcement: Announcement = {
    kind: input.kind,
    noop: false,
    rerun: request.rerun,
    epoch: keySet.epoch,
    version: chooseVersion(request, config, channel, now),
    created: now,
    notBefore: request.notBefore,
    expires: request.expires,
    infoHash: content.infoHash,
    sha256: content.sha256,
    length: content.length,
    pieceLength: content.pieceLength,
    channel,
    name,
    target: '',
    pieces: content.pieces.length <= pieceRoom ? content.pieces : new Uint8Array(),
  };
  const ids = signers.map(({ id }) => id);
  const body = encodeBody(announcement, ids);
  const signatures = signers.map(({ key }) => signBody(body, keySet.fleet, key));
  const payload = encodeAnnouncement(body, signatures);
  return {
    announcement,
    payload,
    metainfo: buildMetainfo({ ...content, name }),
    contentFile: input.path,
  };
}

/** Copies the content, or packs a directory, into `workDir`; says what it is. */
async function takeInput(
  file: string,
  config: Config,
  workDir: string,
): Promise<{ path: string; name: string; kind: Announcement['kind']; channel: string }> {
  try {
    const stats = await stat(file);
    const isDirectory = stats.isDirectory();
    if (!isDirectory && !stats.isFile()) throw cannotSubmit(file, 'it is a special file');
    if (!isDirectory) checkSize(stats.size, file, config.maxContentBytes);
    const detected = await detectKind(file);
    const name = isDirectory ? `${basename(resolve(file))}.tar.gz` : basename(file);
    const path = join(workDir, isDirectory ? 'content.tar.gz' : name);
    if (isDirectory) await packDirectory(file, path);
    else await copyFile(file, path, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE);
    // The daemon seeds it, under another user.
    await chmod(path, 0o644);
    // A module is its own channel, so that module and manifest never supersede each other.
    const channel = detected.kind === 'module' ? detected.channel.slice(0, 24) : 'default';
    return { path, name, kind: detected.kind, channel };
  } catch (error) {
    if (hasErrno(error, 'ENOENT', 'ENOTDIR', 'ENAMETOOLONG'))
      throw cannotSubmit(file, 'there is no such file');
    if (hasErrno(error, 'EACCES', 'EPERM', 'EIO', 'ELOOP'))
      throw cannotSubmit(file, 'it cannot be read', error);
    throw error;
  }
}

function cannotSubmit(file: string, why: string, cause?: unknown): UpdateError {
  return new UpdateError('usage', `cannot submit ${JSON.stringify(file)}: ${why}`, {
    hint: 'name a regular file, or a directory, that you can read',
    cause,
  });
}

function checkSize(size: number, file: string, max: number): void {
  if (size === 0)
    throw new UpdateError('malformed', `${JSON.stringify(file)} is empty`, {
      hint: 'Transmission cannot share an empty file: submit one with content',
    });
  if (size > max)
    throw new UpdateError(
      'refused',
      `${JSON.stringify(file)} has ${size} bytes, more than ${max}`,
      {
        hint: 'the nodes would refuse it: split it, or raise "maxContentBytes" on all of them',
      },
    );
}

/** The name reaches the disk of every node, so it is one that no tool can misunderstand. */
function checkName(name: string, request: SubmitRequest): void {
  if (isContentName(name)) return;
  const fitting = name
    .normalize('NFKD')
    .replace(/[^A-Za-z0-9._+-]+/g, '-')
    .replace(/^[^A-Za-z0-9]+/, '')
    .slice(-64);
  const given = request.name === undefined ? 'the file is named' : '--name is';
  throw new UpdateError('usage', `${given} ${JSON.stringify(name)}, which cannot be announced`, {
    hint: `a name has 1 to 64 of A-Z a-z 0-9 . _ + -, first a letter or digit: try --name ${isContentName(fitting) ? fitting : 'update.bin'}`,
  });
}

/** max(newest + 1, now): versions ascend even when clocks do not, and look like times in logs. */
function chooseVersion(
  { version }: SubmitRequest,
  config: Config,
  channel: string,
  now: number,
): number {
  const mark = highestVersion(listAccepted(config.stateDir), channel);
  if (version === undefined) return Math.max(mark + 1, now);
  if (version > mark) return version;
  throw new UpdateError(
    'refused',
    `version ${version} is not above ${mark}, the newest of ${channel}`,
    {
      hint: 'leave --version out, or give a higher one',
    },
  );
}

/** As many of this operator's keys as the key set asks for, in the order of the wire. */
function loadSigners(
  config: Config,
  keySet: KeySet,
  channel: string,
): { id: string; key: KeyObject }[] {
  const { fleet, releaseThreshold } = keySet;
  const signers = config.signingKeyFiles
    .map((file) => ({ file, key: readPrivateKey(file) }))
    .map(({ file, key }) => ({ file, key, id: publicKeyOf(key).id }))
    .filter(({ id }) =>
      keySet.releaseKeys.some(
        ({ key, channels }) => key.id === id && channels?.includes(channel) !== false,
      ),
    )
    .sort((a, b) => (a.id < b.id ? -1 : 1))
    .slice(0, releaseThreshold);
  if (signers.length >= releaseThreshold) return signers;
  throw new UpdateError(
    'configuration',
    `fleet ${fleet} asks for ${releaseThreshold} release keys on channel ${channel}; "signingKeyFiles" names ${signers.length}`,
    { hint: 'make keys with scripts/keygen.ts, and name their files in "signingKeyFiles"' },
  );
}

function readPrivateKey(file: string): KeyObject {
  try {
    if ((statSync(file).mode & 0o077) !== 0)
      throw new UpdateError('configuration', `others can read the private key ${file}`, {
        hint: `chmod 600 ${file}; if others had access, make a new key`,
      });
    return createPrivateKey(readFileSync(file));
  } catch (cause) {
    if (cause instanceof UpdateError) throw cause;
    throw new UpdateError('configuration', `cannot read the private key ${file}`, {
      hint: 'make one with scripts/keygen.ts, and name its file in "signingKeyFiles"',
      cause,
    });
  }
}
