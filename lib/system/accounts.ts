import { readFileSync } from 'node:fs';

/** The users and groups of a machine's own files; a directory service may know more. */
export interface Accounts {
  users: ReadonlyMap<string, { uid: number; gid: number }>;
  groups: ReadonlyMap<string, { gid: number; members: readonly string[] }>;
}

/** Reads /etc/passwd and /etc/group; empty where they cannot be read. */
export function readAccounts(): Accounts {
  return parseAccounts(readText('/etc/passwd'), readText('/etc/group'));
}

/** Parses the texts of passwd(5) and group(5), of this machine or of an image. */
export function parseAccounts(passwd: string, group: string): Accounts {
  const rows = (text: string): string[][] =>
    text.split('\n').flatMap((line) => (line === '' ? [] : [line.split(':')]));
  return {
    users: new Map(
      rows(passwd).map(([name = '', , uid, gid]) => [name, { uid: Number(uid), gid: Number(gid) }]),
    ),
    groups: new Map(
      rows(group).map(([name = '', , gid, members = '']) => [
        name,
        { gid: Number(gid), members: members.split(',').filter((member) => member !== '') },
      ]),
    ),
  };
}

function readText(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}

/** The ids of the groups that a user is in, its own first. */
export function groupsOf({ users, groups }: Accounts, user: string): number[] {
  const own = users.get(user);
  if (own === undefined) return [];
  const more = [...groups.values()].filter(({ members }) => members.includes(user));
  return [own.gid, ...more.map(({ gid }) => gid)];
}
