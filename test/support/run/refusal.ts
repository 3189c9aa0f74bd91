import { UpdateError } from '../../../lib/errors.ts';

/** The UpdateError that an action throws; a test must not pass because something else went wrong. */
export function refusal(action: () => unknown): UpdateError {
  try {
    action();
  } catch (error) {
    if (error instanceof UpdateError) return error;
    throw error;
  }
  throw new Error('nothing was refused');
}
