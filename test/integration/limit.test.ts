import { describe, expect, it, onTestFinished } from 'vitest';
import { makeAnnouncement, signAnnouncement } from '../support/fleet/announce.ts';
import { startFleet } from '../support/fleet/fleet.ts';
import type { FleetNode } from '../support/fleet/fleet-node.ts';
import { hasEvent } from '../support/fleet/submit.ts';

/** Full to the last byte of 351: texts and pieces of 188, 116 and 44 bytes. */
const full = [
  { signers: 1, channel: 24, name: 64, pieces: 5 },
  { signers: 2, channel: 7, name: 9, pieces: 5 },
  { signers: 3, channel: 16, name: 8, pieces: 1 },
] as const;

describe('an announcement that fills the default limit', () => {
  it.each(full)('passes with $signers signers', async ({ signers, channel, name, pieces }) => {
    const fleet = await startFleet({
      nodes: 2,
      signers,
      transmission: false,
      config: { trigger: 'spool' },
    });
    onTestFinished(() => {
      fleet.stop();
    });
    const [sender, receiver] = fleet.nodes as [FleetNode, FleetNode];
    const announcement = makeAnnouncement({
      channel: 'c'.repeat(channel),
      name: 'n'.repeat(name),
      length: pieces * 16_384,
      pieces: new Uint8Array(pieces * 20).fill(9),
    });
    const payload = signAnnouncement(announcement, fleet.keys);
    expect(Buffer.from(payload, 'base64url')).toHaveLength(351);
    expect(payload).toHaveLength(468);
    const { status } = await sender.serfCommand(['event', '-coalesce=false', 'update', payload]);
    expect(status).toBe(0);
    await fleet.waitFor('it is accepted', () => hasEvent(receiver, announcement, 'accept'));
  });
});
