import type { Config } from '../../config.ts';
import { describeError, UpdateError } from '../../errors.ts';
import { listHoldings } from '../../query/holdings.ts';
import { HeldUpdates } from '../../state/held.ts';
import { epochOf } from '../../state/key-chain.ts';
import {
  type CatchUpRecord,
  decideCatchUp,
  readCatchUp,
  readJoinedAt,
  stillRefused,
  writeCatchUp,
} from './due.ts';
import {
  askNeighbour,
  type CatchUpDeps,
  fetchDigests,
  querySeconds,
  type Run,
} from './neighbours.ts';
import { type OwnState, planRound } from './plan.ts';

/** Members that one catch-up asks. */
const maxNeighbours = 3;
/** Duration of one round of queries, with the start of Serf's own processes. */
const roundMs = querySeconds * 1000 + 500;
/** Time after which neighbours are asked again when none has answered; twice as long each time. */
const firstPauseMs = 3000;

/**
 * Begins a catch-up if one is due, and records that, so that no other process begins one too: to be
 * called under the advance lock. The catch-up itself needs no lock, and may be lost without harm.
 *
 * @returns the catch-up, which logs its own failure, and fails when Serf is down or refuses our key;
 *   undefined when none is due
 * @throws UpdateError `try-later` and others when it cannot be recorded
 */
export function beginCatchUp(config: Config, deps: CatchUpDeps): Promise<void> | undefined {
  const { stateDir } = config;
  const last = readCatchUp(stateDir);
  const [epoch, nowMs] = [epochOf(config), deps.nowMs()];
  const joinedAt = readJoinedAt(stateDir);
  const { catchUpSeconds: intervalSeconds } = config;
  const random = deps.random();
  const delayMs = decideCatchUp({ last, joinedAt, epoch, nowMs, intervalSeconds, random });
  // Left to the next wake-up, which has the time.
  if (delayMs === null || deps.leftMs() < delayMs + 2 * roundMs) return undefined;
  const claimed: CatchUpRecord = {
    startedAt: nowMs + delayMs,
    epoch,
    members: last?.members ?? 0,
    left: 'time',
    refused: stillRefused(last, epoch, nowMs),
  };
  writeCatchUp(stateDir, claimed);
  return new Promise((resolve) => setTimeout(resolve, delayMs))
    .then(() => catchUp(config, claimed, deps))
    .catch((error: unknown) => {
      deps.log({ decision: 'wait', reason: describeError(error) });
      // Without Serf a node hears nothing: that has to show in the exit status.
      if (error instanceof UpdateError && /^(unavailable|configuration)$/.test(error.code))
        throw error;
    });
}

/**
 * Asks three random members for their holdings, and fetches those that this node lacks. Each
 * announcement is judged as if it had come by event: a neighbour can withhold news, but neither forge
 * it nor bring back an older update.
 */
async function catchUp(config: Config, claimed: CatchUpRecord, deps: CatchUpDeps): Promise<void> {
  const { serf, random } = deps;
  const [members, self] = await Promise.all([serf.members(), serf.selfName()]);
  const alive = members.filter(({ status }) => status === 'alive').map(({ name }) => name);
  const others = alive.filter((name) => name !== self);
  const run: Run = {
    ...{ config, deps, epoch: epochOf(config), refused: [], hasKeySet: false, waits: false },
    settled: new Set(claimed.refused.map(({ offerKey }) => offerKey)),
  };
  const isOver = others.length === 0 || (await fetchMissing(run, chooseRandom(others, random)));
  writeCatchUp(config.stateDir, {
    ...claimed,
    epoch: run.epoch,
    members: alive.length,
    left: run.hasKeySet || run.waits ? 'keys' : isOver ? 'nothing' : 'time',
    refused: [...claimed.refused, ...run.refused],
  });
}

/**
 * Fetches the announcements that this node lacks, round by round.
 *
 * @returns false when there was no time for all of them, or nobody answered in that time
 */
async function fetchMissing(run: Run, names: readonly string[]): Promise<boolean> {
  const { config, deps } = run;
  const held = new HeldUpdates(config);
  const look = async (): Promise<OwnState> => {
    const { epoch, settled } = run;
    held.refresh();
    return { held: await listHoldings(held), epoch, settled, channels: config.channels };
  };
  let own = await look();
  let neighbours = await fetchDigests(run, names, own);
  // Busy ones may answer later; nobody else may ever wake a node that has just joined.
  for (let pauseMs = firstPauseMs; neighbours.length === 0; pauseMs *= 2) {
    if (deps.leftMs() < pauseMs + 2 * roundMs) return false;
    await deps.pause(pauseMs);
    neighbours = await fetchDigests(run, names, own);
  }
  for (;;) {
    const asks = planRound(neighbours, own);
    if (asks.length === 0) return true;
    if (deps.leftMs() < roundMs) return false;
    await Promise.all(asks.map((each) => askNeighbour(run, each)));
    // The new key set may remove the keys that signed the rest.
    if (run.hasKeySet) return true;
    own = await look();
  }
}

function chooseRandom(names: readonly string[], random: () => number): string[] {
  const left = [...names];
  const count = Math.min(maxNeighbours, left.length);
  return Array.from({ length: count }, () =>
    left.splice(Math.floor(random() * left.length), 1),
  ).flat();
}
