import { describe, expect, it } from 'vitest';
import {
  makeAnnouncement,
  makeKeys,
  signAnnouncement,
  type TestKeys,
} from '../support/fleet/announce.ts';
import { UpdateNode } from '../support/fleet/update-node.ts';

// A corrupted extra signature: every listed signer must be trusted and verify, also those beyond
// the threshold.

const signatureBytes = 64;
const noPieces = { pieces: new Uint8Array() };

/** Three release keys, of which `threshold` suffice. */
function threeKeys(threshold: number): TestKeys {
  const keys = makeKeys('test-fleet', 3);
  return { ...keys, keySet: { ...keys.keySet, releaseThreshold: threshold } };
}

function flipBit(payload: string, offset: number, bit: number): string {
  const bytes = Buffer.from(payload, 'base64url');
  const at = bytes.length + offset;
  bytes.writeUInt8(bytes.readUInt8(at) ^ (1 << bit), at);
  return bytes.toString('base64url');
}

describe.each([1, 2])(
  'with a threshold of %i and three signers, the update handler',
  (threshold) => {
    const keys = threeKeys(threshold);
    const genuine = signAnnouncement(makeAnnouncement(noPieces), keys);

    it('accepts three good signatures', () => {
      expect(new UpdateNode(keys).handle(genuine).status).toBe(0);
    });

    it.each([1, 2, 3])('refuses one flipped bit in signature %i', (index) => {
      const node = new UpdateNode(keys);
      const start = (index - 4) * signatureBytes;
      // In R, the sign of R, S, and the bits of S that are always clear.
      for (const [byte, bit] of [
        [0, 0],
        [31, 7],
        [32, 0],
        [63, 7],
      ] as const) {
        const payload = flipBit(genuine, start + byte, bit);
        node.expectRefusal(
          () => node.handle(payload),
          77,
          /signature of signer .* does not verify/,
        );
      }
      expect(node.handle(genuine).status).toBe(0);
    });

    it.each([0, 1, 2])('refuses a stranger in the place of signer %i', (index) => {
      const node = new UpdateNode(keys);
      const [stranger] = makeKeys().releaseKeys;
      const signers = keys.releaseKeys.map((key, i) => (i === index ? (stranger ?? key) : key));
      const payload = signAnnouncement(makeAnnouncement(noPieces), keys, signers);
      node.expectRefusal(() => node.handle(payload), 77, /is not a release key/);
    });

    it('refuses a root key as an extra signer', () => {
      const node = new UpdateNode(keys);
      const signers = [...keys.releaseKeys.slice(0, 2), ...keys.rootKeys];
      const payload = signAnnouncement(makeAnnouncement(noPieces), keys, signers);
      node.expectRefusal(() => node.handle(payload), 77, /is not a release key/);
    });

    it('refuses an extra signer who may not sign for the channel', () => {
      const [first, second, third] = keys.keySet.releaseKeys;
      if (first === undefined || second === undefined || third === undefined)
        throw new Error('three');
      const limited = [first, second, { ...third, channels: ['web'] }];
      const node = new UpdateNode({ ...keys, keySet: { ...keys.keySet, releaseKeys: limited } });
      node.expectRefusal(() => node.handle(genuine), 77, /may not sign for channel default/);
    });

    it('refuses signatures in another order', () => {
      const node = new UpdateNode(keys);
      const bytes = Buffer.from(genuine, 'base64url');
      const signatures = [1, 2, 3].map((i) => bytes.subarray(-i * 64, -(i - 1) * 64 || undefined));
      const body = bytes.subarray(0, -3 * signatureBytes);
      const payload = Buffer.concat([body, ...signatures]).toString('base64url');
      node.expectRefusal(() => node.handle(payload), 77, /does not verify/);
    });

    it('refuses one signature three times', () => {
      const node = new UpdateNode(keys);
      const bytes = Buffer.from(genuine, 'base64url');
      const body = bytes.subarray(0, -3 * signatureBytes);
      const last = bytes.subarray(-signatureBytes);
      const payload = Buffer.concat([body, last, last, last]).toString('base64url');
      node.expectRefusal(() => node.handle(payload), 77, /does not verify/);
    });
  },
);
