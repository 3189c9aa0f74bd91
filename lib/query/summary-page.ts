import { isChannel } from '../announcement/fields.ts';
import { softwareVersion } from '../build.ts';
import type { Config } from '../config.ts';
import type { EquivocationState } from '../state/equivocation.ts';
import { isRecord, parseJson } from '../system/json.ts';
import { asciiOnly } from '../system/printable.ts';
import { type AskDownloads, type Download, formatDownload, parseDownload } from './downloads.ts';
import {
  type ChannelFacts,
  type CurrentUpdate,
  nodeFacts,
  type NodeFacts,
  type OwnChannel,
  type RunResult,
} from './node-summary.ts';
import { isNodeState, maxResponseBytes } from './update-status.ts';

/**
 * One response to the query `update-status` with the request `summary [CHANNEL]`: the facts of a node,
 * and of as many channels after CHANNEL as fit. JSON, ASCII, at most 900 bytes:
 *
 *     {"format":1,"software":…,"epoch":…,"created":…,"limited":…,"fault":…,"clock":…,"more":…,"channels":[…]}
 *
 * where a channel is a list, so that some seven fit:
 *
 *     [channel, newest, flags, lastApplied, version, state, since, reason, [exitCode, changed, failed],
 *       [percent, bytesPerSecond]]
 *
 * without the last six when no update is meant for the node, and without the last one when nothing is being
 * downloaded. Flags: X the newest is expired, E an equivocation, U a damaged record of one, W a withdrawal is
 * meant for the node. Version 0.2.0 knows neither the clock, nor downloads, nor W.
 */
export interface SummaryPage extends NodeFacts {
  channels: ChannelFacts[];
  /** Further channels follow after the last of these. */
  hasMore: boolean;
}

const format = 1;
const maxTextChars = 80;
const equivocationFlags: Record<EquivocationState, string> = { none: '', seen: 'E', unknown: 'U' };

/**
 * Formats this node's page of the channels after `after`; '' is the first page.
 *
 * @param nowSeconds unix seconds
 */
export async function summaryPage(
  config: Config,
  after: string,
  nowSeconds: number,
  askDownloads: AskDownloads,
): Promise<string> {
  const { facts, channels } = nodeFacts(config, nowSeconds);
  const left = channels.filter(({ name }) => name > after);
  const read: OwnChannel[] = [];
  const none: ReadonlyMap<string, Download> = new Map();
  const format = (count: number, downloads: typeof none): string => {
    const rows = read.slice(0, count).map((each) => formatChannel(each, downloads));
    return formatPage(facts, rows, count < left.length);
  };
  for (const channel of left) {
    read.push(channel.read(nowSeconds));
    if (format(read.length, none).length > maxResponseBytes) break;
  }
  const awaited = read.flatMap((each) => each.awaited ?? []);
  const downloads = await askDownloads(awaited);
  let count = read.length;
  while (count > 0 && format(count, downloads).length > maxResponseBytes) count -= 1;
  return format(count, downloads);
}

/** Formats the page of a node that cannot even read its configuration. */
export function faultPage(fault: string): string {
  const facts = { epoch: null, newestCreated: null, isLimited: true, fault };
  return formatPage({ software: softwareVersion, ...facts }, [], false);
}

function formatPage(facts: NodeFacts, channels: readonly unknown[], more: boolean): string {
  return JSON.stringify({
    format,
    software: shorten(facts.software),
    epoch: facts.epoch,
    created: facts.newestCreated,
    limited: facts.isLimited,
    fault: shorten(facts.fault),
    clock: facts.clock,
    more,
    channels,
  });
}

function formatChannel(
  { facts, awaited }: OwnChannel,
  downloads: ReadonlyMap<string, Download>,
): unknown[] {
  const { channel, newest, lastApplied, current } = facts;
  const flags = [
    facts.isNewestExpired ? 'X' : '',
    equivocationFlags[facts.equivocation],
    facts.isWithdrawal ? 'W' : '',
  ].join('');
  const row = [channel, newest, flags, lastApplied];
  if (current === null) return row;
  const { version, state, since, run } = current;
  // The result of a run says more than its reason.
  const reason = state === 'APPLIED' && run !== null ? '' : shorten(current.reason);
  const download = awaited === null ? undefined : downloads.get(awaited);
  return [
    ...row,
    ...[version, state, since, reason, run && [run.exitCode, run.changed, run.failed]],
    ...(download === undefined ? [] : [formatDownload(download)]),
  ];
}

/** Cuts a text and makes it ASCII, so that characters are bytes; JSON's escapes at most double them. */
function shorten(text: string): string {
  return asciiOnly(text.slice(0, maxTextChars));
}

/** Parses a member's page; undefined for anything else, since any member can answer anything. */
export function parsePage(text: string): SummaryPage | undefined {
  const value = parseJson(text);
  if (!isRecord(value) || value['format'] !== format) return undefined;
  const { software, epoch, created, limited, fault, clock, more, channels } = value;
  if (typeof software !== 'string' || typeof fault !== 'string') return undefined;
  if (typeof limited !== 'boolean' || typeof more !== 'boolean') return undefined;
  if (!isCountOrNull(epoch) || !isCountOrNull(created) || !Array.isArray(channels))
    return undefined;
  const rows = channels.map(parseChannel);
  if (!rows.every((row) => row !== undefined)) return undefined;
  return {
    software: shorten(software),
    epoch,
    newestCreated: created,
    isLimited: limited,
    fault: shorten(fault),
    ...(isCount(clock) ? { clock } : {}),
    channels: rows,
    hasMore: more && rows.length > 0,
  };
}

function parseChannel(value: unknown): ChannelFacts | undefined {
  if (!Array.isArray(value)) return undefined;
  const [channel, newest, flags, lastApplied, ...rest] = value as unknown[];
  if (typeof channel !== 'string' || !isChannel(channel)) return undefined;
  if (typeof flags !== 'string' || !isCount(newest) || !isCount(lastApplied)) return undefined;
  const current = rest.length === 0 ? null : parseCurrent(rest);
  if (current === undefined) return undefined;
  const states = Object.keys(equivocationFlags) as EquivocationState[];
  const seen = states.find((state) => state !== 'none' && flags.includes(equivocationFlags[state]));
  return {
    channel,
    newest,
    isNewestExpired: flags.includes('X'),
    isWithdrawal: flags.includes('W'),
    equivocation: seen ?? 'none',
    lastApplied,
    current,
  };
}

function parseCurrent(fields: unknown[]): CurrentUpdate | undefined {
  const [version, state, since, reason, run, download] = fields;
  if (!isCount(version) || !isCount(since) || typeof reason !== 'string') return undefined;
  if (!isNodeState(state) || !isRun(run)) return undefined;
  const result: RunResult | null = run && { exitCode: run[0], changed: run[1], failed: run[2] };
  return {
    ...{ version, state, since, reason: shorten(reason), run: result },
    download: parseDownload(download),
  };
}

type Run = [number | null, number | null, number | null];

function isRun(value: unknown): value is Run | null {
  return (
    value === null || (Array.isArray(value) && value.length === 3 && value.every(isCountOrNull))
  );
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}

function isCountOrNull(value: unknown): value is number | null {
  return value === null || isCount(value);
}
