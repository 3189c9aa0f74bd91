import { describe, expect, it } from 'vitest';
import { parseAccounts } from '../../../lib/system/accounts.ts';
import { judgeVisitor, type Visitor } from '../../../scripts/cli/operator.ts';

const accounts = parseAccounts(
  'p2p-update:x:990:990::/:/bin/false\nalice:x:1000:1000::/:/bin/sh\nbob:x:1001:1001::/:/bin/sh\n',
  'root:x:0:\np2p-update:x:990:bob\nalice:x:1000:\nbob:x:1001:\n',
);
const closedState = { gid: 990, mode: 0o40750 };
const alice: Visitor = { user: 'alice', groupIds: [1000], stateDir: closedState, accounts };

describe('a user to whom the state of the node is closed', () => {
  it('is told the group that operators are in, and the command', () => {
    expect(judgeVisitor(alice)).toEqual({
      what: 'alice is not in the group p2p-update, as operators of this node are',
      remedy: 'log in again after this, as root',
      command: 'adduser alice p2p-update',
    });
  });

  it('is told to log in again where the session is older than the membership', () => {
    expect(judgeVisitor({ ...alice, user: 'bob', groupIds: [1001] })).toEqual({
      what: 'bob is in the group p2p-update since after this login, which does not have it',
      remedy: 'log out and in again, or for one shell',
      command: 'newgrp p2p-update',
    });
  });

  it.each<[why: string, Visitor]>([
    ['it is in the group', { ...alice, groupIds: [1000, 990] }],
    ['the group may not enter either', { ...alice, stateDir: { gid: 990, mode: 0o40700 } }],
    ["the group is root's", { ...alice, stateDir: { gid: 0, mode: 0o40750 } }],
    ['the group has no name', { ...alice, stateDir: { gid: 4242, mode: 0o40750 } }],
  ])('is left to the fault itself when %s', (_why, visitor) => {
    expect(judgeVisitor(visitor)).toBeUndefined();
  });
});
