import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import { decodeRecord } from '../../../lib/system/record.ts';
import type { Progress } from '../../../lib/state/progress.ts';
import { updateKey, type UpdateId } from '../../../lib/announcement/update.ts';
import type { LoggedLine } from '../../../lib/system/event-log.ts';
import type { FleetNode } from './fleet-node.ts';

/** Output of `submit --json`. */
export interface Submitted extends UpdateId {
  kind: string;
  name: string;
  infoHash: string;
  sha256: string;
  pieces: 'in' | 'magnet';
  bytesUsed: number;
  payload: string;
  submittedAt: string;
}

/** Submits on a node, as its operator would, and expects that to work. */
export async function submit(node: FleetNode, file: string, ...args: string[]): Promise<Submitted> {
  const { status, stdout, stderr } = await node.script('submit', [file, '--json', ...args]);
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  return JSON.parse(stdout.trimEnd().split('\n').at(-1) ?? '') as Submitted;
}

/** A node's log lines about one update. */
export function eventsOf(node: FleetNode, { channel, version }: UpdateId): LoggedLine[] {
  return node.events().filter((line) => line.channel === channel && line.version === version);
}

export function hasEvent(node: FleetNode, update: UpdateId, decision: string): boolean {
  return eventsOf(node, update).some((line) => line.decision === decision);
}

/** Outcome of an update on a node; undefined when its apply side did not begin. */
export function outcomeOf(node: FleetNode, update: UpdateId): Progress | undefined {
  const file = join(node.config.applyDir, 'outcomes', updateKey(update));
  try {
    return decodeRecord(readFileSync(file, 'utf8'), file)?.value as Progress;
  } catch {
    return undefined;
  }
}
