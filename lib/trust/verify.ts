import { createHash, type KeyObject, sign } from 'node:crypto';
import type { SignedAnnouncement } from '../announcement/codec.ts';
import type { Kind } from '../announcement/fields.ts';
import type { Offer } from '../announcement/update.ts';
import type { Config } from '../config.ts';
import { type ErrorCode, UpdateError } from '../errors.ts';
import { isGoodSignature, requireEd25519 } from './ed25519.ts';
import type { KeySet, ReleaseKey } from './key-set.ts';
import { commandHint } from '../command-hint.ts';

/**
 * Signs an announcement's body for one fleet.
 *
 * @param body from `encodeBody`; the key's id must be among its signers
 * @param fleet the fleet id, as in the key set
 * @returns the signature, 64 bytes
 * @throws UpdateError `configuration` unless the key is an Ed25519 key
 */
export function signBody(body: Uint8Array, fleet: string, privateKey: KeyObject): Uint8Array {
  requireEd25519(privateKey);
  return sign(null, signedBytes(body, fleet), privateKey);
}

/**
 * Checks the signers and signatures against the key set that this node trusts now (TUF 5.3.4 for a key
 * set). Times, version and target are judged elsewhere.
 *
 * @throws UpdateError `try-later` when the announcement is of a later key set; `untrusted` unless
 *   every listed signer is a release key for the channel (a root key, for kind keyset), there are
 *   enough of them, and every signature is good
 */
export function verifyAnnouncement(signed: SignedAnnouncement, keySet: KeySet): void {
  const { announcement, signers, body, signatures } = signed;
  const fleet = `fleet ${keySet.fleet}`;
  if (announcement.epoch > keySet.epoch)
    throw new UpdateError(
      'try-later',
      `the announcement needs key set ${announcement.epoch}; this node has ${keySet.epoch}`,
      { hint: `fetch the newer key sets of ${fleet} first` },
    );
  // An announcement of an earlier epoch is judged by today's keys, so that removing a key also ends the
  // updates that it signed (docs/trust.md#key-sets).

  // Roles are separate, as in TUF 2.1: a key that signs updates must not be able to change the keys.
  const { role, trusted, threshold } = signersFor(announcement.kind, keySet);
  const keys = signers.map((id) => {
    const listed = trusted.find(({ key }) => key.id === id);
    if (listed === undefined)
      throw new UpdateError('untrusted', `signer ${id} is not a ${role} key of ${fleet}`, {
        hint: `compare with the key set of epoch ${keySet.epoch}; a removed key's updates must be signed again`,
      });
    const { channels } = listed;
    if (channels !== null && !channels.includes(announcement.channel))
      throw new UpdateError(
        'untrusted',
        `signer ${id} may not sign for channel ${announcement.channel}`,
        { hint: `the key set allows it: ${channels.join(', ')}` },
      );
    return listed.key;
  });
  if (keys.length < threshold)
    throw new UpdateError(
      'untrusted',
      `${keys.length} of the ${threshold} ${role} signatures that ${fleet} asks for`,
      { hint: 'sign with as many keys as the key set asks for' },
    );

  const message = signedBytes(body, keySet.fleet);
  keys.forEach((key, i) => {
    const signature = signatures[i];
    if (signature === undefined || !isGoodSignature(message, key, signature))
      throw new UpdateError('untrusted', `the signature of signer ${key.id} does not verify`, {
        hint: `the announcement was altered, forged, or signed for another fleet than ${keySet.fleet}`,
      });
  });
}

/** The code of the error with which {@link verifyAnnouncement} refuses an announcement; undefined: it is good. */
export function verificationFault(
  signed: SignedAnnouncement,
  keySet: KeySet,
): ErrorCode | undefined {
  try {
    verifyAnnouncement(signed, keySet);
    return undefined;
  } catch (error) {
    if (error instanceof UpdateError) return error.code;
    throw error;
  }
}

function signersFor(
  kind: Kind,
  keySet: KeySet,
): { role: 'root' | 'release'; trusted: ReleaseKey[]; threshold: number } {
  const { rootKeys, rootThreshold, releaseKeys, releaseThreshold } = keySet;
  if (kind !== 'keyset')
    return { role: 'release', trusted: releaseKeys, threshold: releaseThreshold };
  const trusted = rootKeys.map((key) => ({ key, channels: null }));
  return { role: 'root', trusted, threshold: rootThreshold };
}

/**
 * The bytes that a signature is over. The fleet is one part of them: an announcement for one fleet proves
 * nothing in another that trusts the same key.
 */
function signedBytes(body: Uint8Array, fleet: string): Buffer {
  const fleetHash = createHash('sha256').update(fleet).digest();
  return Buffer.concat([Buffer.from('p2p-update/announcement/v1\0'), fleetHash, body]);
}

/**
 * Checks that an offer comes from somebody whom this node trusts.
 *
 * @param keySet asked for a signed offer only: a closed lab may have no keys
 *
 * @throws UpdateError `untrusted`, `try-later` (an epoch above ours)
 */
export function verifyOffer(
  offer: Offer,
  { allowUnsigned }: Pick<Config, 'allowUnsigned'>,
  keySet: () => KeySet,
): void {
  if (offer.source === 'announcement') {
    verifyAnnouncement(offer.signed, keySet());
    return;
  }
  if (!allowUnsigned)
    throw new UpdateError('untrusted', 'this is a bare .torrent without a signature', {
      hint: `only a closed lab may set "allowUnsigned"; to sign it and send it: ${commandHint('submit', 'FILE')}`,
    });
}
