import { mkdirSync, mkdtempSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { nameOf } from '../../lib/announcement/update.ts';
import { describeError } from '../../lib/errors.ts';
import { readAccepted } from '../../lib/state/facts.ts';
import { outcomesDir } from '../../lib/state/layout.ts';
import { readProgress } from '../../lib/state/progress.ts';
import { Random } from '../fuzz/random.ts';
import type { FleetNode } from '../support/fleet/fleet-node.ts';
import { startFleet } from '../support/fleet/fleet.ts';
import { makeImage } from './cut-image.ts';
import { flush } from './cut-node.ts';
import { submitUpdate } from './kill-submit.ts';
import { makeContent, newestOf, type SentUpdate } from './kill-updates.ts';
import { type Breach, findBreaches } from './kill-verdict.ts';
import { killNow, processesOf } from './node-processes.ts';
import { readText } from './read-text.ts';
import type { CrashFailure } from './result.ts';
import { reconcileTwice } from './two-reconciles.ts';

/** Longer than a small update takes from its event until it is applied. */
const latestCutMs = 6_000;
const pollMs = 5;

/**
 * Cuts the power of a whole node, with its Serf agent, its Transmission daemon and all that they keep, at
 * random moments of an update's way; it starts again from the writes that had reached its disk, and two
 * reconciles have to bring it to the newest of each channel.
 *
 * @param directory gets the files, 20 MiB for each cut
 * @returns the breaches
 */
export async function cutNode(
  directory: string,
  cuts: number,
  seed: number,
  onCut: () => void,
): Promise<CrashFailure[]> {
  if (cuts === 0) return [];
  const keepIn = mkdtempSync(join(directory, 'fleet-'));
  const image = makeImage(directory, join(keepIn, 'n2'));
  const fleet = await startFleet({
    nodes: 2,
    keepIn,
    config: { catchUpSeconds: 5 },
    facts: 'collected',
  });
  const failures: CrashFailure[] = [];
  try {
    const [operator, node] = fleet.nodes as [FleetNode, FleetNode];
    flush(image);
    const sent: SentUpdate[] = [];
    for (let index = 1; index <= cuts; index += 1) {
      const random = new Random(seed, index);
      const work = join(keepIn, `update-${index}`);
      mkdirSync(work);
      const kind = random.pick(['file', 'manifest'] as const);
      const content = makeContent(work, kind, `node-cut-${index}`, random);
      sent.push(await submitUpdate(operator, content));
      await delay(random.below(latestCutMs));

      await stopAll(node);
      const promised = promisesOf(node, sent);
      await image.cutForGood(() => endAll(node));
      const breaches = brokenPromises(node, promised);
      await Promise.all([node.serf.start(), node.transmission.start()]);
      const newest = newestOf(sent);
      await reconcileTwice(fleet, newest);
      breaches.push(...findBreaches(fleet, sent, newest));
      for (const { invariant, text } of breaches)
        failures.push({ invariant, point: `power cut of a node ${index}`, detail: text });
      onCut();
    }
    return failures;
  } finally {
    fleet.stop();
    image.remove();
  }
}

/** Stops every process of a node between two system calls. */
async function stopAll({ namespace }: FleetNode): Promise<void> {
  for (;;) {
    const running = processesOf(namespace).filter(({ pid }) => !isStopped(pid));
    if (running.length === 0) return;
    for (const { pid } of running) {
      try {
        process.kill(pid, 'SIGSTOP');
      } catch {
        // It has ended by itself.
      }
    }
    await delay(pollMs);
  }
}

function isStopped(pid: number): boolean {
  const stat = readText(`/proc/${pid}/stat`);
  return stat === undefined || /^[TZ]/.test(stat.slice(stat.lastIndexOf(')') + 2));
}

async function endAll(node: FleetNode): Promise<void> {
  await Promise.all([node.serf.end('SIGKILL'), node.transmission.end('SIGKILL')]);
  for (;;) {
    const left = processesOf(node.namespace);
    if (left.length === 0) return;
    for (const { pid } of left) killNow(pid);
    await delay(pollMs);
  }
}

/** Facts that the logs of a node promise: each line is written after the durable fact. */
interface Promises {
  accepted: SentUpdate[];
  applied: SentUpdate[];
}

function promisesOf(node: FleetNode, sent: readonly SentUpdate[]): Promises {
  const events = node.events();
  const having = (decision: string): SentUpdate[] =>
    sent.filter(({ channel, version }) =>
      events.some((e) => e.decision === decision && e.channel === channel && e.version === version),
    );
  const newest = new Set(newestOf(sent));
  const [accepted, applied] = [having('accept'), having('applied')];
  return { accepted: accepted.filter((each) => newest.has(each)), applied };
}

function brokenPromises({ name, config }: FleetNode, { accepted, applied }: Promises): Breach[] {
  const lost = (update: SentUpdate, what: string): Breach => ({
    invariant: 'lost',
    text: `${name}: after the power cut ${nameOf(update)} is not ${what}`,
  });
  try {
    return [
      ...accepted
        .filter((each) => readAccepted(config.stateDir, each)?.payload !== each.payload)
        .map((each) => lost(each, 'accepted')),
      ...applied
        .filter((each) => readProgress(outcomesDir(config.applyDir), each)?.state !== 'APPLIED')
        .map((each) => lost(each, 'APPLIED')),
    ];
  } catch (error) {
    return [{ invariant: 'lost', text: `${name}: after the power cut ${describeError(error)}` }];
  }
}
