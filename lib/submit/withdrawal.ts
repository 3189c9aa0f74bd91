import { pieceBudget } from '../announcement/codec.ts';
import {
  type Announcement,
  isContentName,
  zeroInfoHash,
  zeroSha256,
} from '../announcement/fields.ts';
import { nameOf, type Update, type UpdateId } from '../announcement/update.ts';
import { commandHint } from '../command-hint.ts';
import type { Config } from '../config.ts';
import { UpdateError } from '../errors.ts';
import { currentKeySet } from '../state/key-chain.ts';
import { checkPieceRoom, loadSigners, signAnnouncement } from '../trust/signing.ts';
import { requireAcceptable, surveyFleet } from './acceptance.ts';
import { chooseVersion, type FleetVersions, newestUpdate } from './known-updates.ts';
import { checkUpdateChannel, type Submission } from './submission.ts';

/** An operator's request; times in unix seconds. */
export interface WithdrawRequest {
  channel: string;
  /** The update that is meant, refused where the channel has a newer one; undefined: the newest. */
  withdraws?: number | undefined;
  /** Checked already; '' is every node. */
  target: string;
  expires: number;
  version?: number | undefined;
}

/** Name for a channel without a known announcement, and where the real name does not fit. */
const anonymous = 'withdraw';

/**
 * Makes the signed announcement that ends the updates of a channel that nodes have not applied yet.
 *
 * @returns with `withdraws`, the newest update known of the channel, undefined when none is
 * @throws UpdateError `malformed` and `usage` for a channel or target that cannot be announced,
 *   `refused` for a version that is not the newest or a clock that is not the fleet's, `configuration` for keys
 */
export async function prepareWithdrawal(
  request: WithdrawRequest,
  config: Config,
  nowSeconds: number,
  fleet: FleetVersions,
): Promise<Submission & { withdraws: UpdateId | undefined }> {
  const { channel, target } = request;
  checkUpdateChannel(channel);
  const keySet = currentKeySet(config);
  const signers = loadSigners(config, keySet, channel);
  const newest = await newestUpdate(channel, config);
  checkIsNewest(request, newest);
  const maxChars = config.serf.maxPayloadChars;
  // The name of a bare torrent is its sender's choice.
  const isNamed = newest !== undefined && isContentName(newest.name);
  const texts = { channel, target, name: isNamed ? newest.name : anonymous };
  // An emergency stop must not fail because a name is long: no node needs it.
  if (pieceBudget({ ...texts, signers: signers.length, maxChars }) < 0) texts.name = anonymous;
  checkPieceRoom(texts, signers.length, maxChars);
  const survey = await surveyFleet(channel, config, fleet, nowSeconds);
  const announcement: Announcement = {
    kind: 'withdraw',
    noop: false,
    rerun: false,
    epoch: keySet.epoch,
    version: chooseVersion(request.version, survey.newest, channel, nowSeconds),
    created: nowSeconds,
    notBefore: 0,
    expires: request.expires,
    infoHash: zeroInfoHash,
    sha256: zeroSha256,
    length: 0,
    pieceLength: 0,
    ...texts,
    pieces: new Uint8Array(),
  };
  requireAcceptable(announcement, survey, config, nowSeconds);
  const payload = signAnnouncement(announcement, signers, keySet.fleet);
  return { announcement, payload, metainfo: null, contentFile: null, withdraws: newest };
}

/** Refuses to stop another update than the one that was named. */
function checkIsNewest({ channel, withdraws }: WithdrawRequest, newest: Update | undefined): void {
  if (withdraws === undefined || withdraws === newest?.version) return;
  const named = nameOf({ channel, version: withdraws });
  throw new UpdateError(
    'refused',
    newest === undefined
      ? `no update of channel ${channel} is known here, so ${named} neither`
      : `${named} is not the newest of ${channel}, ${nameOf(newest)} is`,
    { hint: `to stop whatever is the newest: ${commandHint('submit', '--withdraw', channel)}` },
  );
}
