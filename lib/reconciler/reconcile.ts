import { join } from 'node:path';
import { buildTime, distDirectory } from '../build.ts';
import type { Config } from '../config.ts';
import { connectSerf } from '../daemons/serf/client.ts';
import { announceLimiter, announcePeers } from '../daemons/transmission/announce-peers.ts';
import { connectTransmission } from '../daemons/transmission/client.ts';
import { type Peer, peersFromMembers } from '../daemons/transmission/tracker.ts';
import { describeError, stateError } from '../errors.ts';
import { describeFacts } from '../state/facts.ts';
import {
  advanceLock,
  applyLock,
  completeDir,
  keySetsDir,
  prepareApplyDir,
  prepareStateDir,
} from '../state/layout.ts';
import { listMarkers } from '../state/markers.ts';
import { describeFiles, listDirectory } from '../system/directory.ts';
import { logEvent, type LoggedEvent, rotateLog } from '../system/event-log.ts';
import { runExclusively } from '../system/lock.ts';
import { advance } from './advance/advance.ts';
import type { AdvanceDeps } from './advance/take-step.ts';
import { applyReady } from './apply/apply.ts';
import type { ApplyDeps } from './apply/outcomes.ts';
import { beginCatchUp } from './catch-up/catch-up.ts';

const feedTimeoutMs = 30_000;
/** More than any chain of steps needs; nobody who makes facts must keep us here. */
const maxRounds = 8;
/** Since this process started: no other round begins after that, and whoever comes wakes another one. */
const maxMs = 25_000;
const newsPollMs = 250;
/** Since this process started: when a catch-up has to be over. */
const catchUpEndMs = 28_000;
/** A Serf that does not answer must not keep us longer. */
const catchUpCallSeconds = 4;

const now = (): number => Math.floor(Date.now() / 1000);

/** A side of the reconciler, which may be all that this user runs. */
export type Side = 'advance' | 'apply';

/**
 * What every trigger runs, be it event, hook, timer or person: advance, then apply, until nothing is
 * left to do now. Several at once do no harm: one works, and looks again before it goes.
 *
 * @param sides those that belong to this user
 * @param warn told what a person should put right
 * @throws the first error that kept a side from going on, after the other side had its turn
 */
export async function reconcile(
  config: Config,
  sides: readonly Side[],
  warn: (message: string) => void,
): Promise<void> {
  const errors: unknown[] = [];
  const logs = sideLogs(config);
  const attempt = async (side: Side, work: () => Promise<void>): Promise<void> => {
    if (!sides.includes(side)) return;
    try {
      await work();
    } catch (error) {
      errors.push(stateError(error, side === 'apply' ? config.applyDir : config.stateDir));
      logs[side].log({ decision: 'wait', reason: describeError(error) });
    }
  };
  // Only where it is needed: the apply side has to do without Transmission's credentials.
  let deps: AdvanceDeps | undefined;
  const work: Work = { chores: [], isDue: false };
  for (let inARow = 0; inARow < maxRounds && errors.length === 0;) {
    const seen = lookAt(config);
    await attempt('advance', () =>
      runAdvance(
        config,
        logs.advance.log,
        work,
        () => (deps ??= advanceDeps(config, logs.advance.log, warn)),
      ),
    );
    await attempt('apply', () => runApply(config, logs.apply.log));
    // A path unit does not watch while its service runs, so we do, as long as a chore keeps us here.
    const news = await awaitNews(config, seen, work);
    if (news === 'none') break;
    inARow = news === 'at once' ? inARow + 1 : 0;
  }
  await Promise.all(work.chores);
  // Every wake-up leaves a line: without one nobody could tell an idle node from a dead timer.
  for (const side of sides)
    if (logs[side].lines === 0) logs[side].log({ decision: 'idle', reason: 'nothing to do now' });
  if (errors.length > 0) throw errors[0];
}

/** What advance has begun. */
interface Work {
  chores: Promise<unknown>[];
  /** One has ended after which advance is to look again. */
  isDue: boolean;
}

/** When something new came, as long as chores are under way; looks at least once. */
async function awaitNews(
  config: Config,
  seen: string,
  work: Work,
): Promise<'none' | 'at once' | 'later'> {
  const { chores } = work;
  let isDone = chores.length === 0;
  void Promise.allSettled(chores).then(() => (isDone = true));
  for (let looks = 1; performance.now() < maxMs; looks += 1) {
    if (lookAt(config) !== seen) return looks === 1 ? 'at once' : 'later';
    if (work.isDue) {
      work.isDue = false;
      return 'later';
    }
    if (isDone) return 'none';
    await new Promise((resolve) => setTimeout(resolve, newsPollMs));
  }
  return 'none';
}

/** Advance's turn, unless another process has it; adds the chores that it begins. */
async function runAdvance(
  config: Config,
  log: AdvanceDeps['log'],
  work: Work,
  deps: () => AdvanceDeps,
): Promise<void> {
  const { stateDir } = config;
  prepareStateDir(stateDir);
  const look = (): string => describeFacts(stateDir);
  await runExclusively(advanceLock(stateDir), look, async () => {
    rotateLog(stateDir);
    // First: it needs Serf, and not the Transmission that may be down.
    work.chores.push(...catchUpIfDue(config, log));
    for (const chore of await advance(config, deps())) {
      work.chores.push(chore);
      void chore.then(
        (then) => {
          work.isDue ||= then === 'look again';
        },
        // Thrown when all of them are awaited.
        () => undefined,
      );
    }
  });
}

function catchUpIfDue(config: Config, log: AdvanceDeps['log']): Promise<void>[] {
  const timeoutSeconds = Math.min(config.serf.timeoutSeconds, catchUpCallSeconds);
  try {
    const begun = beginCatchUp(config, {
      serf: connectSerf({ ...config.serf, timeoutSeconds }),
      now: Date.now,
      buildTime,
      log,
      random: Math.random,
      leftMs: () => catchUpEndMs - performance.now(),
    });
    return begun === undefined ? [] : [begun];
  } catch (error) {
    // What is here already must go on.
    log({ decision: 'wait', reason: describeError(stateError(error, config.stateDir)) });
    return [];
  }
}

/** The apply side's turn, unless another process has it. */
async function runApply(config: Config, log: ApplyDeps['log']): Promise<void> {
  const { applyDir } = config;
  prepareApplyDir(applyDir);
  const look = (): string => lookAt(config);
  await runExclusively(applyLock(applyDir), look, () => applyReady(config, { now, log }));
}

/** Everything that wakes a side, as a text that differs when something is new. */
function lookAt({ stateDir, applyDir }: Config): string {
  const markers = describeFiles(completeDir(applyDir), listMarkers(applyDir));
  // One key set more may be what a catch-up waits for.
  const keySets = listDirectory(keySetsDir(applyDir));
  return [describeFacts(stateDir), ...markers.sort(), ...keySets.sort()].join('\n');
}

/** What one wake-up logs of each side, and whether it has logged anything yet. */
type SideLogs = Record<Side, { log: AdvanceDeps['log']; lines: number }>;

/** Each side has a log of its own, in its own directory: no user writes where another one does. */
function sideLogs({ stateDir, applyDir }: Config): SideLogs {
  const logOf = (handler: Side, directory: string): SideLogs[Side] => {
    const each = {
      lines: 0,
      log: (event: Omit<LoggedEvent, 'handler'>): void => {
        each.lines += 1;
        logEvent(directory, { handler, ...event });
      },
    };
    return each;
  };
  return { advance: logOf('advance', stateDir), apply: logOf('apply', applyDir) };
}

function advanceDeps(
  config: Config,
  log: AdvanceDeps['log'],
  warn: AdvanceDeps['warn'],
): AdvanceDeps {
  const transmission = connectTransmission(config.transmission);
  const serf = connectSerf(config.serf);
  const peers = async (): Promise<Peer[]> =>
    peersFromMembers(await serf.members(), await serf.selfName());
  const announced = new Set<string>();
  const warned = new Set<string>();
  const turn = announceLimiter();
  return {
    transmission,
    announcePeers: async (infoHash) => {
      // From an earlier round, which goes on.
      if (announced.has(infoHash)) return;
      announced.add(infoHash);
      const tell = (reason: string): void => {
        log({ decision: 'wait', reason });
      };
      await announcePeers({
        ...{ transmission, infoHash, peers, turn, log: tell },
        timeoutMs: feedTimeoutMs,
      });
    },
    now,
    buildTime,
    log,
    warn(message) {
      // Once, and not in every round.
      if (!warned.has(message)) warn(message);
      warned.add(message);
    },
    hook: join(distDirectory(), 'handlers', 'transmission-done.cjs'),
  };
}
