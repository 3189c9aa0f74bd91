import { setTimeout as delay } from 'node:timers/promises';
import { commandHint } from '../../lib/command-hint.ts';
import type { Config } from '../../lib/config.ts';
import { connectSerf } from '../../lib/daemons/serf/client.ts';
import type { Member } from '../../lib/daemons/serf/members.ts';
import { connectTransmission } from '../../lib/daemons/transmission/client.ts';
import { UpdateError } from '../../lib/errors.ts';
import { journalHas } from '../doctor/systemd.ts';
import { nameConflict } from '../doctor/serf-checks.ts';
import { nameIsTaken } from './fleet.ts';

const patienceMs = 45_000;
const pauseMs = 250;

/** The node as its daemons show it. */
export interface Settled {
  self: Member;
  /** Members that are alive, this one included. */
  alive: Member[];
}

/**
 * Waits until both daemons answer with the new keys, and the agent has found another member.
 *
 * @param expectsOthers whether it is to join members
 * @param beganMs time before the daemons were started
 * @throws UpdateError `unavailable` or `configuration`, as the daemon that fails has it; `unavailable` for an
 *   agent that stays alone; `refused` where another node has its name: the agent has to be stopped
 */
export async function waitUntilSettled(
  config: Config,
  expectsOthers: boolean,
  beganMs: number,
): Promise<Settled> {
  const endMs = Date.now() + patienceMs;
  const serf = connectSerf(config.serf);
  const transmission = connectTransmission(config.transmission);
  const name = await retry(endMs, () => serf.selfName());
  await retry(endMs, () => transmission.session(['version']));
  return retry(endMs, async () => {
    const alive = (await serf.members()).filter(({ status }) => status === 'alive');
    const self = alive.find((member) => member.name === name);
    // Told while it joins; which of the two ends is decided seconds later.
    if (expectsOthers && (await journalHas('serf', nameConflict, beganMs)))
      throw nameIsTaken(name, 'another node');
    if (self !== undefined && (alive.length > 1 || !expectsOthers)) return { self, alive };
    throw new UpdateError('unavailable', `${name} has not found any other member`, {
      hint: `setup has done its work, and Serf goes on trying: ${commandHint('doctor')}. Is port 7946 open, TCP and UDP, both ways? Has another node the name ${name}?`,
    });
  });
}

/** Tries until the time is over, then throws the last error. */
async function retry<T>(endMs: number, attempt: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      // A wrong key is no matter of time, and each try of a password counts against the daemon's limit.
      const isFinal =
        !(error instanceof UpdateError) || ['configuration', 'refused'].includes(error.code);
      if (isFinal || Date.now() > endMs) throw error;
      await delay(pauseMs);
    }
  }
}
