import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { describeError } from '../../lib/errors.ts';
import { listAccepted } from '../../lib/state/facts.ts';
import { nameOf } from '../../lib/announcement/update.ts';
import { startFleet, type Fleet } from '../support/fleet/fleet.ts';
import type { FleetNode } from '../support/fleet/fleet-node.ts';
import { Random } from '../fuzz/random.ts';
import { resend, submitUpdate } from './kill-submit.ts';
import { makeContent, newestOf, updateKinds, type SentUpdate } from './kill-updates.ts';
import { findBreaches, unverified, type Breach } from './kill-verdict.ts';
import { carryOut, victims, type Kill, type Restarts, type Victim } from './kill-victims.ts';
import type { CrashFailure, CrashOptions, CrashResult } from './result.ts';
import { reconcileTwice } from './two-reconciles.ts';

const nodeCount = 3;
const totals = { full: 200, short: 6 };

/**
 * Kills random processes of random nodes by SIGKILL while updates of all kinds go through a fleet of
 * real daemons, and checks after each round that two reconciles bring every node to the newest of
 * each channel. Runs in test/support/run/sandbox.sh only.
 *
 * A round's choices follow from the seed and its number alone, its instants from the machine as well.
 */
export async function runRandomKills(options: CrashOptions): Promise<CrashResult> {
  const total = options.short ? totals.short : totals.full;
  const fleet = await startFleet({
    nodes: nodeCount,
    config: { catchUpSeconds: 5 },
    facts: 'collected',
  });
  try {
    const state: State = {
      fleet,
      sent: [],
      known: new Set(),
      killed: new Map(victims.map((victim) => [victim, 0])),
      resent: 0,
      failures: [],
    };
    let rounds = 0;
    const count = (): number => [...state.killed.values()].reduce((sum, each) => sum + each, 0);
    for (let round = 1; count() < total && round <= total; round += 1) {
      const name = `kills round ${round}`;
      if (options.only !== undefined && !name.includes(options.only)) continue;
      rounds += 1;
      const random = new Random(options.seed, round);
      const size = options.short ? totals.short : random.between(14, 20);
      await playRound(state, name, size, random).catch((error: unknown) => {
        state.failures.push({
          invariant: 'notConverged',
          point: name,
          detail: describeError(error),
        });
      });
      options.onProgress?.(Math.min(count(), total), total);
    }
    return {
      count: count(),
      rows: [
        { label: 'random kills', figures: Object.fromEntries(state.killed) },
        {
          label: 'random kills: rounds',
          figures: { rounds, updates: state.sent.length, resent: state.resent },
        },
      ],
      failures: state.failures,
    };
  } finally {
    fleet.stop();
  }
}

interface State {
  fleet: Fleet;
  sent: SentUpdate[];
  /** Breaches that were reported before. */
  known: Set<string>;
  killed: Map<Victim, number>;
  /** Events that no node had heard. */
  resent: number;
  failures: CrashFailure[];
}

/** One to three updates and so many kills, both at random moments; then rest, and the verdict. */
async function playRound(state: State, name: string, kills: number, random: Random): Promise<void> {
  const { fleet } = state;
  const [operator] = fleet.nodes as [FleetNode];
  const report = (breaches: readonly Breach[]): void => {
    for (const { invariant, text } of breaches) {
      if (state.known.has(text)) continue;
      state.known.add(text);
      state.failures.push({ invariant, point: name, detail: text });
    }
  };
  const updates = Array.from({ length: random.between(1, 3) }, () => ({
    kind: random.pick(updateKinds),
    pauseMs: random.below(1500),
    random: new Random(random.next(), 1),
  }));
  const hasPuppet = updates.some(({ kind }) => kind !== 'file');
  const planned = Array.from({ length: kills }, () => planKill(random, fleet.nodes, hasPuppet));
  const waits = planned.map(() => random.below(1500));

  const submitAll = async (): Promise<void> => {
    for (const [index, update] of updates.entries()) {
      const tag = `${name.replaceAll(' ', '-')}-${index + 1}`;
      const directory = join(fleet.directory, tag);
      mkdirSync(directory);
      const content = makeContent(directory, update.kind, tag, update.random);
      state.sent.push(await submitUpdate(operator, content));
      await delay(update.pauseMs);
    }
  };
  const restarts: Restarts = new Map();
  const killAll = async (): Promise<void> => {
    for (const [index, kill] of planned.entries()) {
      await delay(waits[index]);
      const patienceMs = patienceOf(kill.victim);
      if (!(await carryOut(kill, state.sent.at(-1), patienceMs, restarts))) continue;
      state.killed.set(kill.victim, (state.killed.get(kill.victim) ?? 0) + 1);
      report(fleet.nodes.flatMap((node) => unverified(node, state.sent)));
    }
  };
  await Promise.all([submitAll(), killAll()]);
  await Promise.all(restarts.values());
  const newest = newestOf(state.sent);
  for (const update of newest) await sendIfUnheard(state, update);
  await reconcileTwice(fleet, newest);
  report(findBreaches(fleet, state.sent, newest));
}

function planKill(random: Random, nodes: readonly FleetNode[], hasPuppet: boolean): Kill {
  return {
    victim: random.pick(victims.filter((victim) => hasPuppet || victim !== 'puppet')),
    node: random.pick(nodes),
    afterMs: random.below(400),
    restartMs: random.below(1200),
  };
}

/** Milliseconds to wait for a victim that should run by itself: Puppet comes last in the chain. */
function patienceOf(victim: Victim): number {
  return victim === 'puppet' ? 10_000 : 1_500;
}

/**
 * The agent that was asked to send an event may be killed before any node has heard it, the operator's
 * own one included: then the operator sends it again, since the update is missing.
 */
async function sendIfUnheard(state: State, update: SentUpdate): Promise<void> {
  const { fleet } = state;
  const isHeard = fleet.nodes.some((node) =>
    listAccepted(node.config.stateDir).some((id) => nameOf(id) === nameOf(update)),
  );
  if (isHeard) return;
  const [operator] = fleet.nodes as [FleetNode];
  await fleet.waitFor('the operator has his agent', async () => {
    const alive = await operator.aliveMembers();
    return alive.length > 0;
  });
  await resend(operator, update);
  state.resent += 1;
}
