import { accessSync, constants, statSync } from 'node:fs';
import { userInfo } from 'node:os';
import { shellCommand } from '../../lib/command-hint.ts';
import { type Config, loadConfig } from '../../lib/config.ts';
import { UpdateError } from '../../lib/errors.ts';
import { type Accounts, readAccounts } from '../../lib/system/accounts.ts';

/** The user that runs a command, and the state directory of the node, which is closed to him. */
export interface Visitor {
  user: string;
  /** Ids of the groups that this session has. */
  groupIds: readonly number[];
  stateDir: { gid: number; mode: number };
  accounts: Accounts;
}

/** A user that lacks a group, with the command that helps and words to introduce it. */
export interface MembershipFault {
  what: string;
  remedy: string;
  command: string;
}

/** Bits of a mode by which the group may list and enter a directory. */
const groupEnters = 0o050;

/**
 * Reads the configuration for a command of operators, who are members of the group that may read the state of the
 * node. Without it each command would fail at another file, for a reason that says little.
 *
 * @throws UpdateError `configuration`, as {@link loadConfig} does, and for a user that is no member
 */
export function loadOperatorConfig(env: NodeJS.ProcessEnv): Config {
  const config = loadConfig(env);
  const fault = membershipFault(config);
  if (fault === undefined) return config;
  const { what, remedy, command } = fault;
  throw new UpdateError('configuration', what, { hint: `${remedy}: ${command}` });
}

/** Finds out whether the state of this node is closed to this user for want of a group alone. */
export function membershipFault({
  stateDir,
}: Pick<Config, 'stateDir'>): MembershipFault | undefined {
  try {
    accessSync(stateDir, constants.R_OK | constants.X_OK);
    return undefined;
  } catch {
    const { uid, gid, username } = userInfo();
    const stats = tryStat(stateDir);
    // Missing, or below a closed directory: the command that needs it says so.
    if (stats === undefined || stats.uid === uid) return undefined;
    const groupIds = [gid, ...(process.getgroups?.() ?? [])];
    return judgeVisitor({ user: username, groupIds, stateDir: stats, accounts: readAccounts() });
  }
}

function tryStat(path: string) {
  try {
    return statSync(path);
  } catch {
    return undefined;
  }
}

/** Judges a user to whom the state directory is closed; undefined when a group would not help. */
export function judgeVisitor({
  user,
  groupIds,
  stateDir: { gid, mode },
  accounts,
}: Visitor): MembershipFault | undefined {
  const [group, found] = [...accounts.groups].find(([, each]) => each.gid === gid) ?? [];
  // The group of root is for nobody else.
  if (group === undefined || gid === 0 || groupIds.includes(gid)) return undefined;
  if ((mode & groupEnters) !== groupEnters) return undefined;
  return found?.members.includes(user) === true
    ? {
        what: `${user} is in the group ${group} since after this login, which does not have it`,
        remedy: 'log out and in again, or for one shell',
        command: shellCommand('newgrp', group),
      }
    : {
        what: `${user} is not in the group ${group}, as operators of this node are`,
        remedy: 'log in again after this, as root',
        command: shellCommand('adduser', user, group),
      };
}
