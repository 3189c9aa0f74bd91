import { createHash } from 'node:crypto';
import { UpdateError } from '../errors.ts';

// The grammar of docs/announcement.md#targets. Every pattern below is a run of one character class, so
// that no text takes more than one pass.

/** The node as a target sees it: from root's configuration, never from Serf's name and tags. */
export interface NodeIdentity {
  name: string;
  tags: Readonly<Record<string, string>>;
}

type Condition = { negated: boolean } & (
  | { kind: 'share'; hundredths: number }
  | { kind: 'node'; values: readonly string[] }
  | { kind: 'tag'; key: string; values: readonly string[] }
);

interface Scan {
  readonly text: string;
  at: number;
}

const maxTargetChars = 64;
const maxShownChars = 24;
/** A share of 100 %, in hundredths of a percent. */
const wholeFleet = 10_000;
const shareRule = 'a share is 0.01% to 100%, with at most two decimals and no leading zero';

/**
 * Checks that a target follows the grammar; '' does, and means every node.
 *
 * @throws UpdateError `malformed`; its message names the column, from 1, and shows the text there
 */
export function checkTarget(text: string): void {
  parseTarget(text);
}

/**
 * True when an announcement on this channel with this target is for this node.
 *
 * @throws UpdateError `malformed` for a target that `checkTarget` refuses
 */
export function matchesTarget(text: string, channel: string, node: NodeIdentity): boolean {
  return parseTarget(text).every(
    (condition) => holds(condition, channel, node) !== condition.negated,
  );
}

function holds(condition: Condition, channel: string, node: NodeIdentity): boolean {
  switch (condition.kind) {
    case 'share':
      return shareBucket(node.name, channel) < condition.hundredths;
    case 'node':
      return condition.values.includes(node.name);
    case 'tag': {
      // The key is the announcement's choice: `constructor` must not find Object.prototype's.
      const tag = Object.hasOwn(node.tags, condition.key) ? node.tags[condition.key] : undefined;
      return tag !== undefined && condition.values.includes(tag);
    }
  }
}

/**
 * A node's place on a channel, 0 to 9,999: a share is of all nodes below its bound, so that a wider share
 * has all nodes of a narrower one. The channel is hashed too, or the same nodes would always be first.
 */
function shareBucket(name: string, channel: string): number {
  const hex = createHash('sha256').update(`${name}\0${channel}`).digest('hex');
  return Number.parseInt(hex.slice(0, 12), 16) % wholeFleet;
}

function parseTarget(text: string): Condition[] {
  if (text.length > maxTargetChars)
    fault({ text, at: maxTargetChars }, `it has at most ${maxTargetChars} characters`);
  const unprintable = text.search(/[^ -~]/);
  if (unprintable !== -1)
    fault({ text, at: unprintable }, 'it has printable ASCII characters only');
  if (text === '') return [];
  const scan: Scan = { text, at: 0 };
  const conditions = [];
  do conditions.push(parseCondition(scan));
  while (skip(scan, ','));
  if (scan.at < text.length)
    fault(scan, 'a "," or the end is expected; a value has none of ! , = and |');
  return conditions;
}

function parseCondition(scan: Scan): Condition {
  const negated = skip(scan, '!');
  const key = take(scan, /[A-Za-z0-9._-]+/y);
  if (key === '') fault(scan, 'a key is expected: A-Z a-z 0-9 . _ -');
  if (!skip(scan, '=')) fault(scan, `a "=" is expected after "${key}"`);
  if (key === 'share') return { negated, kind: 'share', hundredths: parseShare(scan) };
  const values = [];
  do values.push(parseValue(scan));
  while (skip(scan, '|'));
  return key === 'node' ? { negated, kind: 'node', values } : { negated, kind: 'tag', key, values };
}

function parseValue(scan: Scan): string {
  const start = scan.at;
  const value = take(scan, /[^!,=|]+/y);
  if (value === '') fault(scan, 'a value is expected: it is never empty and has none of ! , = |');
  if (value.startsWith(' ')) fault({ ...scan, at: start }, 'a value has no space at its start');
  if (value.endsWith(' '))
    fault({ ...scan, at: start + value.trimEnd().length }, 'a value has no space at its end');
  return value;
}

function parseShare(scan: Scan): number {
  const start = scan.at;
  const whole = take(scan, /0|[1-9][0-9]*/y);
  const decimals = take(scan, /\.[0-9]{1,2}/y);
  if (whole === '' || !skip(scan, '%')) fault(scan, shareRule);
  const hundredths = Number(whole) * 100 + Number(decimals.slice(1).padEnd(2, '0'));
  if (hundredths < 1 || hundredths > wholeFleet) fault({ ...scan, at: start }, shareRule);
  return hundredths;
}

/** @param pattern sticky */
function take(scan: Scan, pattern: RegExp): string {
  pattern.lastIndex = scan.at;
  const taken = pattern.exec(scan.text)?.[0] ?? '';
  scan.at += taken.length;
  return taken;
}

function skip(scan: Scan, character: string): boolean {
  if (scan.text[scan.at] !== character) return false;
  scan.at += 1;
  return true;
}

function fault({ text, at }: Scan, rule: string): never {
  // An unsigned announcement gets this far: no character of it may control a terminal or a log.
  const rest = text
    .slice(at, at + maxShownChars)
    .replace(/[^ -~]/g, (character) => `\\u{${character.charCodeAt(0).toString(16)}}`);
  const where = rest === '' ? 'at its end' : `at "${rest}"`;
  throw new UpdateError('malformed', `the target is wrong in column ${at + 1}, ${where}: ${rule}`, {
    hint: 'a target is like "role=web|db,!canary=true" or "share=10%" (docs/announcement.md)',
  });
}
