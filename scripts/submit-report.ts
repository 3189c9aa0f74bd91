import type { Config } from '../lib/config.ts';
import { parseAnnouncement } from '../lib/update.ts';

/** What is told of an announcement, the same for a dry run, a submission and a repetition. */
export function describeAnnouncement(payload: string, config: Config) {
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
    pieces: a.pieces.length > 0 ? ('in' as const) : ('magnet' as const),
    pieceLength: a.pieceLength,
    created: isoTime(a.created),
    notBefore: a.notBefore === 0 ? null : isoTime(a.notBefore),
    expires: isoTime(a.expires),
    rerun: a.rerun,
    epoch: a.epoch,
    signers,
    payloadChars: payload.length,
    bytesUsed: bytes(payload.length),
    bytesBudget: bytes(config.serf.maxPayloadChars),
    payload,
  };
}

/** Prints the facts: as lines for a person, or as one JSON object. `sentAt` is null for a dry run. */
export function report(
  facts: ReturnType<typeof describeAnnouncement>,
  sentAt: Date | null,
  json: boolean,
): void {
  if (json) {
    const sent = { sent: sentAt !== null, submittedAt: sentAt?.toISOString() ?? null };
    process.stdout.write(`${JSON.stringify({ ...facts, ...sent })}\n`);
    return;
  }
  const pieces = facts.pieces === 'in' ? 'in the announcement' : 'fetched from peers (magnet)';
  const rows: [string, string][] = [
    ['update', `${facts.channel}@${facts.version}`],
    ['kind', facts.kind],
    ['name', facts.name],
    ['content', `${facts.contentBytes} bytes, SHA-256 ${facts.sha256}`],
    ['info hash', facts.infoHash],
    ['pieces', `${facts.pieceLength} bytes each, ${pieces}`],
    ['not before', facts.notBefore ?? 'at once'],
    ['expires', facts.expires],
    ['signed by', `${facts.signers.join(', ')} (key set ${facts.epoch})`],
    [
      'payload',
      `${facts.bytesUsed} of ${facts.bytesBudget} bytes, ${facts.payloadChars} characters`,
    ],
  ];
  if (facts.rerun) rows.push(['rerun', 'also where this content is applied already']);
  for (const [label, value] of rows) process.stdout.write(`${label.padEnd(12)}${value}\n`);
  process.stdout.write(sentAt === null ? 'dry run: nothing was sent\n' : 'sent to the fleet\n');
}

function isoTime(unixSeconds: number): string {
  return new Date(unixSeconds * 1000).toISOString();
}
