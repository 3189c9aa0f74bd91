import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  formatInvitation,
  type Invitation,
  isJoinAddress,
  parseInvitation,
} from '../../../lib/trust/invitation.ts';
import { refusal } from '../../support/run/refusal.ts';
import { repository } from '../../support/run/repository.ts';

const keySet =
  /```text keyset\n([^`]*)```/.exec(
    readFileSync(join(repository, 'docs/announcement.md'), 'utf8'),
  )?.[1] ?? 'no example';
const invitation: Invitation = {
  keySet,
  gossipKey: Buffer.alloc(32, 7).toString('base64'),
  join: ['192.0.2.11', '[2001:db8::1]:7947', 'pi-01.lab.example'],
};

describe('an invitation', () => {
  it('is one word that a shell takes as it is, and is read back', () => {
    const word = formatInvitation(invitation);
    expect(word).toMatch(/^p2p1-[\w-]+$/);
    expect(parseInvitation(` ${word}\n`)).toEqual(invitation);
  });

  it('is refused when any part of it was lost or changed, without a word of it in the message', () => {
    const word = formatInvitation(invitation);
    fc.assert(
      fc.property(fc.nat(word.length - 1), fc.constantFrom('', 'A', 'b', '-'), (at, instead) => {
        const changed = word.slice(0, at) + instead + word.slice(at + 1);
        fc.pre(changed !== word);
        const error = refusal(() => parseInvitation(changed));
        expect(error).toMatchObject({ code: 'malformed' });
        expect(error.message).not.toContain(word.slice(20, 40));
      }),
    );
  });

  it.each<[string, Partial<Invitation>]>([
    ['a gossip key of another length', { gossipKey: Buffer.alloc(20).toString('base64') }],
    ['a gossip key that is not base64', { gossipKey: 'p0Qv' }],
    ['no member', { join: [] }],
    ['an address with a shell command', { join: ['$(reboot)'] }],
    ['an address that is an option', { join: ['-rpc-addr=192.0.2.1'] }],
    ['a key set with another line', { keySet: `${keySet}root threshold 0\n` }],
  ])('is refused with %s', (_, change) => {
    const word = formatInvitation({ ...invitation, ...change });
    expect(refusal(() => parseInvitation(word))).toMatchObject({ code: 'malformed' });
  });

  it.each(['', ' ', 'p2p1-', 'p2p2-AAAA', 'hello', '-----BEGIN PRIVATE KEY-----'])(
    'is not %j',
    (text) => {
      expect(refusal(() => parseInvitation(text))).toMatchObject({ code: 'malformed' });
    },
  );

  it.each<[string, boolean]>([
    ['192.0.2.11', true],
    ['pi-01:7946', true],
    ['[2001:db8::1]:7946', true],
    ['fe80::1%eth0', true],
    ['pi 01', false],
    ['', false],
    ['a;b', false],
  ])('takes %j as an address: %j', (text, isOne) => {
    expect(isJoinAddress(text)).toBe(isOne);
  });
});
