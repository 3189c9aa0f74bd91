import { isChannel, keySetChannel } from '../announcement/fields.ts';
import { checkTarget, matchesTarget } from '../announcement/target.ts';
import { type Config, identityOf } from '../config.ts';
import { isRecord, parseJson } from '../system/json.ts';

/** Request of the query `update-status`: is this node a target? Version 0.2.0 does not answer it. */
export interface TargetRequest {
  channel: string;
  /** Checked already. */
  target: string;
}

export function formatTargetRequest({ channel, target }: TargetRequest): string {
  return `target ${channel} ${target}`;
}

/**
 * Parses `target CHANNEL EXPR`; undefined for any other request.
 *
 * @throws UpdateError `malformed` for a target that breaks its grammar
 */
export function parseTargetRequest(request: string): TargetRequest | undefined {
  const [, channel = '', target = ''] = /^target (\S+) (.+)$/.exec(request) ?? [];
  if (!isChannel(channel)) return undefined;
  checkTarget(target);
  return { channel, target };
}

/** Answers by the root-owned name, tags and channels of this node: `{"matches":true}`. */
export function answerTarget(config: Config, { channel, target }: TargetRequest): string {
  const isFollowed = channel === keySetChannel || config.channels?.includes(channel) !== false;
  return JSON.stringify({
    matches: isFollowed && matchesTarget(target, channel, identityOf(config)),
  });
}

/** Parses a member's answer; undefined for anything else, since any member can answer anything. */
export function parseTargetAnswer(response: string): boolean | undefined {
  const value = parseJson(response);
  const matches = isRecord(value) ? value['matches'] : undefined;
  return typeof matches === 'boolean' ? matches : undefined;
}
