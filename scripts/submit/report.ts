import { nameOf, parseAnnouncement } from '../../lib/announcement/update.ts';
import type { Config } from '../../lib/config.ts';
import type { TargetedMembers } from '../../lib/query/ask-fleet.ts';
import type { UpdateProgress } from '../../lib/query/judge-update.ts';
import type { Sent } from '../../lib/submit/publish.ts';
import { isoTime } from '../../lib/system/iso-time.ts';
import { print, printJson } from '../cli/output.ts';

/**
 * Facts about an announcement, the same for a dry run, a submission and --resend.
 *
 * @param payload the text of a valid announcement; throws UpdateError `malformed` for any other
 * @param targets null without a target, and when Serf could not be asked
 */
export function describeAnnouncement(
  payload: string,
  config: Config,
  targets: TargetedMembers | null = null,
) {
  const { signed } = parseAnnouncement(payload);
  const { announcement: a, signers } = signed;
  const bytes = (chars: number): number => Math.floor((chars * 3) / 4);
  return {
    kind: a.kind,
    channel: a.channel,
    version: a.version,
    name: a.name,
    contentBytes: a.length,
    sha256: a.sha256,
    infoHash: a.infoHash,
    pieces:
      a.kind === 'withdraw' ? null : a.pieces.length > 0 ? ('in' as const) : ('magnet' as const),
    pieceLength: a.pieceLength,
    created: isoTime(a.created),
    notBefore: a.notBefore === 0 ? null : isoTime(a.notBefore),
    expires: isoTime(a.expires),
    rerun: a.rerun,
    noop: a.noop,
    target: a.target,
    targets: targets && {
      matching: targets.matching.length,
      members: targets.matching.length + targets.others.length + targets.silent.length,
      silent: targets.silent.map(({ name }) => name),
    },
    epoch: a.epoch,
    signers,
    payloadChars: payload.length,
    bytesUsed: bytes(payload.length),
    bytesBudget: bytes(config.serf.maxPayloadChars),
    payload,
  };
}

export type Facts = ReturnType<typeof describeAnnouncement>;

/**
 * Prints the facts about an announcement, as lines or as one JSON object.
 *
 * @param facts with `verdict` and `nodes` after --wait; null when the fleet could not be asked
 * @param sent null for a dry run
 */
export function report(
  facts: Facts & { why?: string } & { [K in 'verdict' | 'nodes']?: UpdateProgress[K] | null },
  sent: Sent | null,
  json: boolean,
): void {
  if (json) {
    const submittedAt = sent?.at.toISOString() ?? null;
    printJson({ ...facts, sent: sent !== null, submittedAt });
    return;
  }
  const rows: [string, string][] = [
    ['update', nameOf(facts)],
    ['kind', facts.kind],
    ['name', facts.name],
    ...contentRows(facts),
    ['target', targetText(facts)],
    ['not before', facts.notBefore ?? 'at once'],
    ['expires', facts.kind === 'keyset' ? 'never' : facts.expires],
    ['signed by', `${facts.signers.join(', ')} (key set ${facts.epoch})`],
    [
      'payload',
      `${facts.bytesUsed} of ${facts.bytesBudget} bytes, ${facts.payloadChars} characters`,
    ],
  ];
  if (facts.rerun) rows.push(['rerun', 'also where this content is applied already']);
  if (facts.noop) rows.push(['noop', 'nodes record what would change, and change nothing']);
  for (const [label, value] of rows) print(`${label.padEnd(12)}${value}\n`);
  print(`${sentText(facts, sent)}\n`);
}

function sentText({ channel }: Facts, sent: Sent | null): string {
  if (sent === null) return 'dry run: nothing was sent';
  return sent.isHeldHere
    ? 'sent to the fleet: this node has taken it'
    : `sent to the fleet: this node has heard it, and does not follow channel ${channel}`;
}

function contentRows(facts: Facts): [string, string][] {
  if (facts.kind === 'withdraw')
    return [['content', `none: nodes stop what they have not applied of ${facts.channel}`]];
  const pieces = facts.pieces === 'in' ? 'in the announcement' : 'fetched from peers (magnet)';
  return [
    ['content', `${facts.contentBytes} bytes, SHA-256 ${facts.sha256}`],
    ['info hash', facts.infoHash],
    ['pieces', `${facts.pieceLength} bytes each, ${pieces}`],
  ];
}

function targetText({ target, targets }: Facts): string {
  if (target === '') return 'all nodes';
  if (targets === null) return `${target} (Serf cannot be asked)`;
  const { matching, members, silent } = targets;
  const unknown = silent.length > 0 ? `, ${silent.length} without an answer` : '';
  return `${target} (${matching} of ${members} nodes${unknown})`;
}
