import { spawnSync } from 'node:child_process';
import { closeSync, constants, openSync } from 'node:fs';
import { UpdateError } from '../errors.ts';

/** Limit on the rounds of one holder; no burst of facts needs as many. */
const maxRounds = 8;

/**
 * Runs `work` under flock(2) on `file`, unless another process holds it, and again as long as
 * `look` (the facts, as a text) has changed meanwhile: eight times at most, since a user that can write
 * facts must not keep the holder busy for ever.
 *
 * No wake-up is lost: the writer of a fact tries the lock afterwards. Either it gets the lock, or the
 * holder, which looks once more after unlocking, sees the fact.
 *
 * @returns false when another process held the lock, and so does the work
 * @throws UpdateError `unavailable` when flock(1) is missing; and the errors of `work`
 */
export async function runExclusively(
  file: string,
  look: () => string,
  work: () => Promise<void>,
): Promise<boolean> {
  for (let round = 1; ; round += 1) {
    const descriptor = openSync(file, constants.O_RDWR | constants.O_CREAT, 0o640);
    const seen = look();
    try {
      if (!tryLock(descriptor)) return false;
      await work();
    } finally {
      closeSync(descriptor);
    }
    if (round >= maxRounds || look() === seen) return true;
  }
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
