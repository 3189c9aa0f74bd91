import { isIP } from 'node:net';
import { UpdateError } from '../../errors.ts';
import { isRecord } from '../../system/json.ts';
import { asciiOnly } from '../../system/printable.ts';

/** One member of the fleet, as the local agent sees it. */
export interface Member {
  name: string;
  /** IPv4 or IPv6 address, without brackets. */
  address: string;
  /** Serf's own gossip port, not Transmission's. */
  port: number;
  status: MemberStatus;
  tags: Record<string, string>;
}

export type MemberStatus = 'alive' | 'leaving' | 'left' | 'failed' | 'none';

const statuses: readonly MemberStatus[] = ['alive', 'leaving', 'left', 'failed', 'none'];

// A member's tags are at most 512 bytes (memberlist.MetaMaxSize), its name 128 characters: below 1.5 kB
// of JSON a member.
const maxMembers = 10_000;

/** A member's name for a log or a person: each member chooses its own. */
export function shownName(name: string): string {
  return asciiOnly(name.slice(0, 64));
}

/**
 * Parses the reply of `serf members -format json`. Each member chooses its own name and tags: a malformed
 * one is left out, so that it cannot hide the others.
 *
 * @throws UpdateError `unavailable` when the reply is not a list of members at all
 */
export function parseMembers(reply: unknown): Member[] {
  const list: unknown = isRecord(reply) ? reply['members'] : undefined;
  // Go writes an empty list as null.
  if (list === null) return [];
  if (!Array.isArray(list)) throw strangeReply();
  const members: Member[] = [];
  for (const entry of list.slice(0, maxMembers)) {
    const member = parseMember(entry);
    if (member !== undefined) members.push(member);
  }
  return members;
}

function parseMember(entry: unknown): Member | undefined {
  if (!isRecord(entry)) return undefined;
  const { name, addr, tags } = entry;
  if (typeof name !== 'string' || name === '' || typeof addr !== 'string') return undefined;
  const status = statuses.find((known) => known === entry['status']);
  // Go's TCPAddr.String: 192.0.2.1:7946, [2001:db8::1]:7946
  const [, address, digits] = /^\[?([^[\]]+)\]?:(\d{1,5})$/.exec(addr) ?? [];
  const port = Number(digits);
  if (status === undefined || address === undefined || isIP(address) === 0) return undefined;
  if (port < 1 || port > 65_535) return undefined;
  return { name, address, port, status, tags: parseTags(tags) };
}

function parseTags(tags: unknown): Record<string, string> {
  const entries = isRecord(tags) ? Object.entries(tags) : [];
  return Object.fromEntries(
    entries.filter((entry): entry is [string, string] => typeof entry[1] === 'string'),
  );
}

/** The error for a malformed reply of Serf. */
export function strangeReply(): UpdateError {
  return new UpdateError('unavailable', 'malformed response of the Serf agent', {
    hint: 'compare with: serf members -format json',
  });
}
