import { join } from 'node:path';
import { advance } from './advance.ts';
import { applyReady, prepareApplyDir } from './apply.ts';
import { buildTime } from './build-time.ts';
import type { Config } from './config.ts';
import { describeError } from './errors.ts';
import { logEvent } from './event-log.ts';
import { runExclusively } from './lock.ts';
import { feedTorrent } from './feed.ts';
import { peersFromMembers, type Peer } from './peers.ts';
import { connectSerf } from './serf.ts';
import { describeFacts, prepareStateDir } from './store.ts';
import type { AdvanceDeps, Chore } from './take-step.ts';
import { connectTransmission } from './transmission.ts';
import { distDirectory } from './wake.ts';

const feedTimeoutMs = 30_000;
/** More than any chain of steps needs; a fault must not keep us here for ever. */
const maxRounds = 8;

const now = (): number => Math.floor(Date.now() / 1000);

/**
 * What every trigger runs, be it event, hook, timer or person: advance, then apply, until nothing is
 * left to do now. Several at once do no harm: one works, and looks again before it goes.
 *
 * @param warn told what a person should put right
 * @throws the first error that kept a side from going on, after the other side had its turn
 */
export async function reconcile(config: Config, warn: (message: string) => void): Promise<void> {
  const { stateDir, applyDir } = config;
  prepareStateDir(stateDir);
  prepareApplyDir(applyDir);
  const look = (): string => describeFacts(stateDir);
  const errors: unknown[] = [];
  const attempt = async (handler: string, work: () => Promise<void>): Promise<void> => {
    try {
      await work();
    } catch (error) {
      errors.push(error);
      logEvent(stateDir, { handler, decision: 'wait', reason: describeError(error) });
    }
  };
  for (let round = 0; round < maxRounds && errors.length === 0; round += 1) {
    const seen = look();
    const chores: Chore[] = [];
    await attempt('advance', async () => {
      const deps = advanceDeps(config, warn);
      await runExclusively(join(stateDir, 'advance.lock'), look, async () => {
        chores.push(...(await advance(config, deps)));
      });
    });
    await attempt('apply', async () => {
      await runExclusively(join(applyDir, 'apply.lock'), look, () =>
        applyReady(config, { now, log: logAs(config, 'apply') }),
      );
    });
    await Promise.all(chores);
    if (look() === seen) break;
  }
  if (errors.length > 0) throw errors[0];
}

function logAs({ stateDir }: Config, handler: string): AdvanceDeps['log'] {
  return (event) => {
    logEvent(stateDir, { handler, ...event });
  };
}

function advanceDeps(config: Config, warn: AdvanceDeps['warn']): AdvanceDeps {
  const log = logAs(config, 'advance');
  const transmission = connectTransmission({
    ...config.transmission,
    timeoutMs: config.transmission.timeoutSeconds * 1000,
  });
  const serf = connectSerf({ ...config.serf, timeoutMs: config.serf.timeoutSeconds * 1000 });
  const peers = async (): Promise<Peer[]> =>
    peersFromMembers(await serf.members(), await serf.selfName());
  return {
    transmission,
    feed: async (infoHash) => {
      const tell = (reason: string): void => {
        log({ decision: 'wait', reason });
      };
      await feedTorrent({ transmission, infoHash, peers, timeoutMs: feedTimeoutMs, log: tell });
    },
    now,
    buildTime,
    log,
    warn,
    hook: join(distDirectory(), 'handlers', 'transmission-done.cjs'),
  };
}
