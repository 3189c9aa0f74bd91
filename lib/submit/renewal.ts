import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { SignedAnnouncement } from '../announcement/codec.ts';
import type { Announcement } from '../announcement/fields.ts';
import { buildMetainfo } from '../announcement/metainfo.ts';
import {
  contentName,
  isNamedBy,
  nameOf,
  parseAnnouncement,
  type UpdateId,
  type UpdateRef,
} from '../announcement/update.ts';
import type { Config } from '../config.ts';
import { describeContent } from '../content/hash-content.ts';
import { commandHint } from '../command-hint.ts';
import { UpdateError } from '../errors.ts';
import { currentKeySet, readChained } from '../state/key-chain.ts';
import { type KeySet, parseKeySet } from '../trust/key-set.ts';
import { checkPieceRoom, loadSigners, signAnnouncement } from '../trust/signing.ts';
import { verifyAnnouncement } from '../trust/verify.ts';
import { requireAcceptable, surveyFleet } from './acceptance.ts';
import { listInEffect } from './in-effect.ts';
import { chooseVersion, type FleetVersions } from './known-updates.ts';
import { listPublished, notKept, readPublished } from './published.ts';
import type { OnProgress, Submission } from './submission.ts';

/** An operator's request; times in unix seconds. */
export interface RenewRequest {
  /** Of a channel, or without one, the newest that can be renewed. */
  ref: UpdateRef | undefined;
  expires: number;
  /** Checked already; '' is every node, undefined keeps the target. */
  target: string | undefined;
  version?: number | undefined;
}

/**
 * Signs a kept announcement again: a new version, time and expiry, with today's keys, for the same
 * content. Nodes that have applied the content neither download nor run it again.
 *
 * @returns with `renews`, the update that was signed again, and `newest`, the newest version of its
 *   channel
 * @throws UpdateError `usage` when there is nothing to renew, `refused` when the content is gone or
 *   changed, or this clock is not the fleet's, `untrusted` for an announcement that the fleet's keys never signed
 */
export async function prepareRenewal(
  request: RenewRequest,
  config: Config,
  nowSeconds: number,
  fleet: FleetVersions,
  onProgress?: OnProgress,
): Promise<Submission & { renews: UpdateId; newest: number }> {
  const old = findRenewable(request.ref, config);
  const keySet = currentKeySet(config);
  checkWasSigned(old, keySet, config);
  const { channel, name, length, pieceLength } = old.announcement;
  const target = request.target ?? old.announcement.target;
  const signers = loadSigners(config, keySet, channel);
  const maxChars = config.serf.maxPayloadChars;
  const pieceRoom = checkPieceRoom({ channel, name, target }, signers.length, maxChars);
  const [pieces, survey] = await Promise.all([
    hashKept(old.announcement, config, onProgress),
    surveyFleet(channel, config, fleet, nowSeconds),
  ]);
  const announcement: Announcement = {
    ...old.announcement,
    // A renewal never runs applied content again.
    rerun: false,
    epoch: keySet.epoch,
    version: chooseVersion(request.version, survey.newest, channel, nowSeconds),
    created: nowSeconds,
    expires: request.expires,
    target,
    pieces: pieces.length <= pieceRoom ? pieces : new Uint8Array(),
  };
  requireAcceptable(announcement, survey, config, nowSeconds);
  const { sha256 } = announcement;
  return {
    announcement,
    payload: signAnnouncement(announcement, signers, keySet.fleet),
    metainfo: buildMetainfo({ length, sha256, name, pieceLength, pieces }),
    contentFile: null,
    renews: { channel, version: old.announcement.version },
    newest: survey.newest,
  };
}

function findRenewable(ref: UpdateRef | undefined, config: Config): SignedAnnouncement {
  const kept = listPublished(config);
  for (const id of kept) {
    if (ref !== undefined && !isNamedBy(ref, id)) continue;
    const { signed } = parseAnnouncement(readPublished(config, id).payload);
    const { kind } = signed.announcement;
    if (kind !== 'withdraw' && kind !== 'keyset') return signed;
    if (ref !== undefined && ref.version !== null)
      throw new UpdateError('usage', `${nameOf(id)} is a ${kind}, which has nothing to renew`, {
        hint:
          kind === 'withdraw'
            ? `to stop the channel again: ${commandHint('submit', '--withdraw', id.channel)}`
            : `to repeat its event: ${commandHint('submit', '--resend', nameOf(id))}`,
      });
  }
  throw notKept(ref, ref === undefined ? [] : kept);
}

/**
 * Verifies a kept announcement against the key set of its own epoch, since its keys may have been
 * replaced. Without this our keys would sign the content of any user that can write "publishDir".
 */
function checkWasSigned(old: SignedAnnouncement, keySet: KeySet, config: Config): void {
  const { channel, version, epoch } = old.announcement;
  const then = epoch === keySet.epoch ? keySet : keySetOf(epoch, config);
  if (then === undefined)
    throw new UpdateError(
      'untrusted',
      `key set ${epoch}, which ${nameOf({ channel, version })} was signed under, is not known here`,
      { hint: 'submit the file itself again' },
    );
  verifyAnnouncement(old, then);
}

function keySetOf(epoch: number, { keySetFile, applyDir }: Config): KeySet | undefined {
  const first = parseKeySet(readFileSync(keySetFile, 'utf8'));
  if (first.epoch === epoch) return first;
  const link = readChained(applyDir, epoch);
  return link === undefined ? undefined : parseKeySet(link.text);
}

/** Hashes the pieces of the kept content, which must be the content that was signed. */
async function hashKept(
  { sha256, length, infoHash, pieceLength, name, ...id }: Announcement,
  config: Config,
  onProgress: OnProgress,
): Promise<Uint8Array> {
  const file = join(config.publishDir, contentName({ sha256, name }));
  const size = statSync(file, { throwIfNoEntry: false })?.size;
  const unusable = (fault: string): UpdateError =>
    new UpdateError('refused', `the content of ${nameOf(id)} ${fault}: ${file}`, {
      hint: 'submit the file itself again, with --channel and --name as before',
    });
  if (size === undefined) throw unusable('is no longer in "publishDir"');
  if (size !== length) throw unusable('has changed');
  const content = await describeContent(file, {
    name,
    pieceLength,
    ...(onProgress === undefined ? {} : { onProgress }),
  });
  if (content.sha256 !== sha256 || content.infoHash !== infoHash) throw unusable('has changed');
  return content.pieces;
}

/** An announcement kept here that nodes will not accept any more under the next key set. */
export interface DueRenewal extends UpdateId {
  /** The command that signs it again. */
  command: string;
}

/**
 * Lists the announcements that must be signed again once `next` is in force: those kept here that are in effect,
 * where `next` does not trust their signers. In the order in which they are to be signed again.
 */
export async function listDueRenewals(
  next: KeySet,
  config: Config,
  nowSeconds: number,
): Promise<DueRenewal[]> {
  const inEffect = await listInEffect(config, next, nowSeconds);
  return inEffect
    .filter(({ isKept, isTrusted }) => isKept && !isTrusted)
    .map(({ channel, version, kind, target }) => {
      const aim = target === '' ? [] : ['--target', target];
      const id = { channel, version };
      const again = kind === 'withdraw' ? ['--withdraw', channel, ...aim] : ['--renew', nameOf(id)];
      return { ...id, command: commandHint('submit', ...again) };
    });
}
