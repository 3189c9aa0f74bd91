import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { nameOf } from '../announcement/update.ts';
import { buildTime, distDirectory } from '../build.ts';
import { commandHint } from '../command-hint.ts';
import { completionHooks, type Config } from '../config.ts';
import { connectSerf } from '../daemons/serf/client.ts';
import {
  type AnnounceDeps,
  Announcer,
  announceLimiter,
  announcePeers,
} from '../daemons/transmission/announce-peers.ts';
import { connectTransmission } from '../daemons/transmission/client.ts';
import { type Peer, peersFromMembers } from '../daemons/transmission/tracker.ts';
import { describeError, stateError, UpdateError } from '../errors.ts';
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
import { lastHolder, runExclusively } from '../system/lock.ts';
import { advance } from './advance/advance.ts';
import { askReseed } from './advance/ask-reseed.ts';
import type { AdvanceDeps } from './advance/take-step.ts';
import { applyReady } from './apply/apply.ts';
import type { ApplyDeps } from './apply/outcomes.ts';
import { beginCatchUp } from './catch-up/catch-up.ts';

const announceTimeoutMs = 30_000;
/** Rounds in a row: more than any chain of steps needs, and a limit against a flood of facts. */
const maxRounds = 8;
/**
 * Age of this process after which it waits for nothing more. With the trigger `spawn` a later fact has a process
 * of its own. A path unit starts none while its service runs, and sees no change of that time afterwards, so that
 * this process has to look as long as a task keeps it: well below TimeoutStartSec= of p2p-update-advance.service.
 */
const lastRoundMs: Record<Config['trigger'], number> = { spawn: 25_000, spool: 300_000 };
const newsPollMs = 250;
/** Time for a catch-up, from its beginning, or with `spawn` from that of this process. */
const catchUpMs = 28_000;
/** Time-out of a call of Serf, so that a silent agent does not use up the time of a catch-up. */
const catchUpCallSeconds = 4;

const nowSeconds = (): number => Math.floor(Date.now() / 1000);

/** Receives a line for a person. */
type Tell = (line: string) => void;

/** A side of the reconciler, which may be all that this user runs. */
export type Side = 'advance' | 'apply';

/** Log of each side, with the number of lines that this process wrote to it. */
type SideLogs = Record<Side, { log: AdvanceDeps['log']; lines: number }>;

/** Runs the work of a side under its lock. */
type Exclusively = (
  side: Side,
  lock: string,
  look: () => string,
  work: () => Promise<void>,
) => Promise<void>;

/** Background tasks of advance. */
interface Work {
  tasks: Promise<unknown>[];
  /** One has ended after which advance is to look again. */
  isDue: boolean;
}

/**
 * Runs advance, then apply, until nothing is left to do now; every trigger runs this, be it event, hook,
 * timer or person. Several at once do no harm: one works, and looks again before it ends.
 *
 * @param sides those that belong to this user
 * @param waitMs time to wait for another process at the same work; null: it is enough that that one does it
 * @param warn receives faults that a person should put right
 * @param tell receives a line for each thing done: an update that was accepted, or has come to its end
 * @throws the first error that kept a side from going on, after the other side had its turn; UpdateError
 *   `try-later` when another process was at work for longer than this one was to wait
 */
export async function reconcile(
  config: Config,
  sides: readonly Side[],
  waitMs: number | null,
  warn: (message: string) => void,
  tell: Tell = () => undefined,
): Promise<void> {
  const errors: unknown[] = [];
  const logs = sideLogs(config, tell);
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
  const work: Work = { tasks: [], isDue: false };
  const busy = new Set<Side>();
  const begunSides = new Set<Side>();
  const exclusively: Exclusively = async (side, lock, look, run) => {
    // Later rounds are for news, which another process may take up as well.
    const isWaiting = waitMs !== null && !begunSides.has(side);
    begunSides.add(side);
    if (await runExclusively(lock, look, run, isWaiting ? waitMs : 0)) return;
    busy.add(side);
    if (isWaiting) throw heldError(side, lock);
  };
  for (let inARow = 0; inARow < maxRounds && errors.length === 0;) {
    const seen = lookAt(config);
    await attempt('advance', () =>
      runAdvance(
        config,
        exclusively,
        logs.advance.log,
        work,
        () => (deps ??= advanceDeps(config, logs.advance.log, warn, tell)),
      ),
    );
    await attempt('apply', () => runApply(config, exclusively, logs.apply.log));
    // A path unit does not watch while its service runs, so this process does, as long as tasks keep it.
    const news = await awaitNews(config, seen, work);
    if (news === 'none') break;
    inARow = news === 'at once' ? inARow + 1 : 0;
  }
  await Promise.all(work.tasks);
  // Every wake-up leaves a line, which tells an idle node from a dead timer.
  for (const side of sides)
    if (logs[side].lines === 0)
      logs[side].log({
        decision: 'idle',
        reason: busy.has(side) ? 'another process is at work' : 'nothing to do now',
      });
  if (errors.length > 0) throw errors[0];
}

function heldError(side: Side, lock: string): UpdateError {
  const holder = lastHolder(lock);
  const who =
    holder === undefined
      ? 'another process'
      : `process ${holder.pid}, for ${Math.max(0, nowSeconds() - holder.since)} s`;
  return new UpdateError('try-later', `${side} is at work already: ${who}`, {
    hint: `nothing is lost: that one does the work; it says in its log what it waits for: ${commandHint('log')}`,
  });
}

/**
 * Waits for something new as long as background tasks are under way; looks at least once.
 *
 * @returns how soon it came
 */
async function awaitNews(
  config: Config,
  seen: string,
  work: Work,
): Promise<'none' | 'at once' | 'later'> {
  const { tasks } = work;
  let isDone = tasks.length === 0;
  void Promise.allSettled(tasks).then(() => (isDone = true));
  // At any age once: what a long run of apply has left to advance has no process of its own.
  for (let looks = 1; looks === 1 || performance.now() < lastRoundMs[config.trigger]; looks += 1) {
    if (lookAt(config) !== seen) return looks === 1 ? 'at once' : 'later';
    if (work.isDue) {
      work.isDue = false;
      return 'later';
    }
    if (isDone) return 'none';
    await sleep(newsPollMs);
  }
  return 'none';
}

/** Runs advance unless another process does; adds the background tasks that it begins. */
async function runAdvance(
  config: Config,
  exclusively: Exclusively,
  log: AdvanceDeps['log'],
  work: Work,
  deps: () => AdvanceDeps,
): Promise<void> {
  const { stateDir } = config;
  prepareStateDir(stateDir);
  const look = (): string => describeFacts(stateDir);
  await exclusively('advance', advanceLock(stateDir), look, async () => {
    rotateLog(stateDir);
    // First: it needs Serf, and not the Transmission that may be down.
    work.tasks.push(...catchUpIfDue(config, log));
    for (const task of await advance(config, deps())) {
      work.tasks.push(task);
      void task.then(
        (then) => {
          work.isDue ||= then === 'look again';
        },
        // Thrown when all tasks are awaited.
        () => undefined,
      );
    }
  });
}

function catchUpIfDue(config: Config, log: AdvanceDeps['log']): Promise<void>[] {
  const timeoutSeconds = Math.min(config.serf.timeoutSeconds, catchUpCallSeconds);
  const endMs = (config.trigger === 'spool' ? performance.now() : 0) + catchUpMs;
  try {
    const begun = beginCatchUp(config, {
      serf: connectSerf({ ...config.serf, timeoutSeconds }),
      nowMs: Date.now,
      buildTime,
      log,
      random: Math.random,
      leftMs: () => endMs - performance.now(),
      pause: sleep,
    });
    // Thrown when all tasks are awaited.
    begun?.catch(() => undefined);
    return begun === undefined ? [] : [begun];
  } catch (error) {
    // Announcements that are here already must go on.
    log({ decision: 'wait', reason: describeError(stateError(error, config.stateDir)) });
    return [];
  }
}

/** Runs the apply side unless another process does. */
async function runApply(
  config: Config,
  exclusively: Exclusively,
  log: ApplyDeps['log'],
): Promise<void> {
  const { applyDir } = config;
  prepareApplyDir(applyDir);
  const look = (): string => lookAt(config);
  await exclusively('apply', applyLock(applyDir), look, () =>
    applyReady(config, { nowSeconds, log }),
  );
}

/** Describes everything that wakes a side, in a text that differs when something is new. */
function lookAt({ stateDir, applyDir }: Config): string {
  // The directory itself too: apply may have taken a marker that came after the look before, and advance
  // is to know what came of it.
  const markers = describeFiles(completeDir(applyDir), ['.', ...listMarkers(applyDir)]);
  // A catch-up may wait for the next key set.
  const keySets = listDirectory(keySetsDir(applyDir));
  return [describeFacts(stateDir), ...markers.sort(), ...keySets.sort()].join('\n');
}

/** Opens the log of each side, in its own directory: no user writes where another one does. */
function sideLogs({ stateDir, applyDir }: Config, tell: Tell): SideLogs {
  const logOf = (handler: Side, directory: string): SideLogs[Side] => {
    const each = {
      lines: 0,
      log: (event: Omit<LoggedEvent, 'handler'>): void => {
        each.lines += 1;
        tellOf(event, tell);
        logEvent(directory, { handler, ...event });
      },
    };
    return each;
  };
  return { advance: logOf('advance', stateDir), apply: logOf('apply', applyDir) };
}

/** Start of the work on each update by this process, by performance.now(). */
const begun = new Map<string, number>();

/** Tells of a decision that ends an update. */
function tellOf(event: Omit<LoggedEvent, 'handler'>, tell: Tell): void {
  const { channel = '', version = 0, decision, reason } = event;
  if (version === 0) return;
  const name = nameOf({ channel, version });
  const since = begun.get(name) ?? 0;
  if (decision === 'staged') begun.set(name, performance.now());
  const seconds = Math.max(1, Math.round((performance.now() - since) / 1000));
  if (decision === 'applied') tell(`applied ${name} in ${seconds} s`);
  else if (/^(failed|poisoned|rejected|expired|withdrawn)$/.test(decision))
    tell(`${decision} ${name}: ${reason}`);
}

function advanceDeps(
  config: Config,
  log: AdvanceDeps['log'],
  warn: AdvanceDeps['warn'],
  tell: Tell,
): AdvanceDeps {
  const transmission = connectTransmission(config.transmission);
  const serf = connectSerf(config.serf);
  const peers = async (): Promise<Peer[]> =>
    peersFromMembers(await serf.members(), await serf.selfName());
  const announced = new Set<string>();
  const warned = new Set<string>();
  const announceDeps: AnnounceDeps = {
    ...{ transmission, peers, turn: announceLimiter() },
    async starved(infoHash, seeds) {
      try {
        await askReseed(serf, infoHash, seeds, announceDeps.log);
      } catch (error) {
        announceDeps.log(`cannot ask for ${infoHash}: ${describeError(error)}`);
      }
    },
    log(reason) {
      log({ decision: 'wait', reason });
    },
  };
  return {
    transmission,
    openAnnouncer: (infoHash) => Announcer.open(announceDeps, infoHash),
    announcePeers: async (infoHash, announcer) => {
      // Announced already, by a task of an earlier round.
      if (announced.has(infoHash) && announcer === undefined) return undefined;
      announced.add(infoHash);
      return announcePeers({
        ...{ ...announceDeps, infoHash, timeoutMs: announceTimeoutMs },
        ...(announcer === undefined ? {} : { announcer }),
      });
    },
    unannounced: new Set(),
    nowSeconds,
    buildTime,
    log,
    warn(message) {
      // Once, and not in every round.
      if (!warned.has(message)) warn(message);
      warned.add(message);
    },
    accepted(name) {
      tell(`accepted ${name}`);
    },
    hooks: completionHooks(config, dirname(distDirectory())),
  };
}
