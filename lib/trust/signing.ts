import type { KeyObject } from 'node:crypto';
import { encodeAnnouncement, encodeBody, pieceBudget } from '../announcement/codec.ts';
import type { Announcement } from '../announcement/fields.ts';
import type { Config } from '../config.ts';
import { commandHint } from '../command-hint.ts';
import { UpdateError } from '../errors.ts';
import { publicKeyOf } from './ed25519.ts';
import type { KeySet } from './key-set.ts';
import { readPrivateKey } from './private-key.ts';
import { signBody } from './verify.ts';

/** A private key and its signer id. */
export interface Signer {
  id: string;
  key: KeyObject;
}

/**
 * Loads as many of this operator's release keys as the key set asks for, in the order of the wire.
 *
 * @throws UpdateError `configuration` when there are not enough, or one cannot be used
 */
export function loadSigners(
  config: Pick<Config, 'signingKeyFiles'>,
  keySet: KeySet,
  channel: string,
): Signer[] {
  const { fleet, epoch, releaseThreshold } = keySet;
  const hint = `name its file in "signingKeyFiles"; one is made by: ${commandHint('keygen', '--help')}`;
  const signers = config.signingKeyFiles
    .map((file) => readPrivateKey(file, hint))
    .map((key) => ({ key, id: publicKeyOf(key).id }))
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
    {
      hint: `name the files of keys that may sign in key set ${epoch} in "signingKeyFiles"; it is shown by: ${commandHint('keys', 'list')}`,
    },
  );
}

/** Signs an announcement with these keys; returns the payload of the event. */
export function signAnnouncement(
  announcement: Announcement,
  signers: readonly Signer[],
  fleet: string,
): string {
  const body = encodeBody(
    announcement,
    signers.map(({ id }) => id),
  );
  return encodeAnnouncement(
    body,
    signers.map(({ key }) => signBody(body, fleet, key)),
  );
}

/**
 * Computes the bytes that an announcement has left for piece hashes.
 *
 * @param maxChars the longest payload that the sending agent takes, in characters
 * @throws UpdateError `malformed` when it does not even fit without them; the hint names the fields to
 *   shorten
 */
export function checkPieceRoom(
  texts: { channel: string; name: string; target: string },
  signers: number,
  maxChars: number,
): number {
  const room = pieceBudget({ ...texts, signers, maxChars });
  if (room >= 0) return room;
  const { channel, name, target } = texts;
  const sizes = [`the name (${name.length} bytes)`, `the channel (${channel.length})`];
  if (target !== '') sizes.push(`the target (${target.length})`);
  throw new UpdateError('malformed', `the announcement is ${-room} bytes too long`, {
    hint: `shorten ${sizes.slice(0, -1).join(', ')} or ${sizes.at(-1) ?? ''} by so many in all`,
  });
}
