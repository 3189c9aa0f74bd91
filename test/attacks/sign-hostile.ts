import { encodeAnnouncement, encodeBody } from '../../lib/announcement/codec.ts';
import { publicKeyOf } from '../../lib/trust/ed25519.ts';
import { signBody } from '../../lib/trust/verify.ts';
import { makeAnnouncement, type TestKeys } from '../support/fleet/announce.ts';

/** A signed announcement with a name or channel that the encoder would not write. */
export function signWith(
  field: 'name' | 'channel',
  bytes: Buffer,
  { keySet, releaseKeys }: TestKeys,
): string {
  const [key] = releaseKeys;
  if (key === undefined) throw new Error('no key');
  const announcement = makeAnnouncement({ channel: 'c', name: 'n', pieces: new Uint8Array() });
  const body = Buffer.from(encodeBody(announcement, [publicKeyOf(key).id]));
  // Format 1: the channel is at 87, and behind it the name, each with its length in front.
  const at = field === 'channel' ? 87 : 89;
  const forged = Buffer.concat([
    body.subarray(0, at),
    Buffer.from([Math.min(bytes.length, 255)]),
    bytes,
    body.subarray(at + 2),
  ]);
  return encodeAnnouncement(forged, [signBody(forged, keySet.fleet, key)]);
}
