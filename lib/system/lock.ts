import { spawnSync } from 'node:child_process';
import { closeSync, constants, openSync, readFileSync, writeSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { UpdateError } from '../errors.ts';

/** Limit on the rounds of one holder; no burst of facts needs as many. */
const maxRounds = 8;
const lockPollMs = 200;
const holderLength = 32;

/**
 * Runs `work` under flock(2) on `file`, unless another process holds it, and again as long as
 * `look` (the facts, as a text) has changed meanwhile: eight times at most, since a user that can write
 * facts must not keep the holder busy for ever.
 *
 * No wake-up is lost: the writer of a fact tries the lock afterwards. Either it gets the lock, or the
 * holder, which looks once more after unlocking, sees the fact.
 *
 * @param waitMs time to wait for the lock, for whom it is not enough that another process does the work
 * @returns false when another process held the lock, and so does the work
 * @throws UpdateError `unavailable` when flock(1) is missing; and the errors of `work`
 */
export async function runExclusively(
  file: string,
  look: () => string,
  work: () => Promise<void>,
  waitMs = 0,
): Promise<boolean> {
  const deadline = performance.now() + waitMs;
  for (let round = 1; ; round += 1) {
    const descriptor = openSync(file, constants.O_RDWR | constants.O_CREAT, 0o640);
    const seen = look();
    try {
      while (!tryLock(descriptor)) {
        if (performance.now() >= deadline) return false;
        await sleep(lockPollMs);
      }
      writeHolder(descriptor);
      await work();
    } finally {
      closeSync(descriptor);
    }
    if (round >= maxRounds || look() === seen) return true;
  }
}

/** The process that holds a lock, while one does; it says so itself, for people. */
export interface Holder {
  pid: number;
  /** Unix seconds. */
  since: number;
}

/** Writes this process into a lock file, for {@link lastHolder}; always as long, so that no block is freed. */
function writeHolder(descriptor: number): void {
  try {
    const text = `${process.pid} ${Math.floor(Date.now() / 1000)}`;
    writeSync(descriptor, text.padEnd(holderLength), 0);
  } catch {
    // A full disk: the work itself may still go on.
  }
}

/** Reads who took a lock last; undefined where this user may not, or nobody has said. */
export function lastHolder(file: string): Holder | undefined {
  let text: string;
  try {
    text = readFileSync(file, 'latin1');
  } catch {
    return undefined;
  }
  const [, pid, since] = /^(\d{1,10}) (\d{1,12}) *$/.exec(text) ?? [];
  return pid === undefined ? undefined : { pid: Number(pid), since: Number(since) };
}

/**
 * Locks a file by flock(1), which locks the open file description that it inherits: the lock stays after
 * its exit, until this process closes the description or dies. Node opens with O_CLOEXEC, so no child
 * keeps it.
 */
function tryLock(descriptor: number): boolean {
  const { status, error } = spawnSync('flock', ['--nonblock', '3'], {
    stdio: ['ignore', 'ignore', 'ignore', descriptor],
  });
  if (status === 0) return true;
  if (status === 1) return false;
  throw new UpdateError('unavailable', 'cannot lock the state with flock(1)', {
    hint: 'install util-linux',
    cause: error ?? new Error(`flock exited with ${String(status)}`),
  });
}
