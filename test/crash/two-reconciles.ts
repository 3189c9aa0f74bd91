import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { contentLocation, parseAnnouncement } from '../../lib/announcement/update.ts';
import { distDirectory } from '../../lib/build.ts';
import { partialSuffix } from '../../lib/daemons/transmission/torrent.ts';
import { hasErrno } from '../../lib/errors.ts';
import { outcomesDir } from '../../lib/state/layout.ts';
import { readProgress } from '../../lib/state/progress.ts';
import type { FleetNode } from '../support/fleet/fleet-node.ts';
import type { Fleet } from '../support/fleet/fleet.ts';
import type { SentUpdate } from './kill-updates.ts';
import { processesOf } from './node-processes.ts';
import { programArgv } from '../support/run/program.ts';

/** A reconciler announces peers for 30 s at most, and begins no round after 25 (lib/reconciler/reconcile.ts). */
const restMs = 70_000;
const downloadMs = 60_000;
const lookEveryMs = 50;

/**
 * Brings a fleet whose daemons run again to rest, by no more than two reconciles on each node, as its
 * timer would start them. The bytes are Transmission's, and take what time they take: between the two
 * the download is waited for, at most a minute. A reconcile that finds another one at work leaves the
 * work to that one, so each counts as ended when none runs on its node any more.
 *
 * @param newest updates that every node should have in the end
 */
export async function reconcileTwice(fleet: Fleet, newest: readonly SentUpdate[]): Promise<void> {
  const { nodes } = fleet;
  await fleet.waitFor(
    'every agent knows every node',
    async () => {
      const alive = await Promise.all(nodes.map((node) => node.aliveMembers()));
      return alive.every((members) => members.length === nodes.length);
    },
    30_000,
  );
  await Promise.all(nodes.map(reconcileOnce));
  const deadline = performance.now() + downloadMs;
  const isThere = (): boolean =>
    nodes.every((node) =>
      newest.every((update) => isApplied(node, update) || isDownloaded(node, update)),
    );
  while (!isThere() && performance.now() < deadline) await delay(lookEveryMs);
  await Promise.all(nodes.map(reconcileOnce));
}

export function isApplied({ config }: FleetNode, update: SentUpdate): boolean {
  return readProgress(outcomesDir(config.applyDir), update)?.state === 'APPLIED';
}

async function reconcileOnce(node: FleetNode): Promise<void> {
  await node.run(programArgv('p2p-update.cjs reconcile'), { timeoutMs: restMs });
  const deadline = performance.now() + restMs;
  const isOurs = (argument: string): boolean => argument.startsWith(distDirectory());
  while (processesOf(node.namespace).some(({ argv }) => argv.some(isOurs))) {
    if (performance.now() > deadline) throw new Error(`${node.name}: a reconciler does not end`);
    await delay(lookEveryMs);
  }
}

/** Whether Transmission has all of it, be it under the name of a partial download. */
function isDownloaded({ config }: FleetNode, { payload }: SentUpdate): boolean {
  const { update } = parseAnnouncement(payload);
  const download = contentLocation(update, config.downloadDir).file;
  const publish = contentLocation(update, config.publishDir).file;
  return [download, `${download}${partialSuffix}`, publish].some((file) => {
    try {
      const bytes = readFileSync(file);
      return createHash('sha256').update(bytes).digest('hex') === update.sha256;
    } catch (error) {
      if (hasErrno(error, 'ENOENT')) return false;
      throw error;
    }
  });
}
