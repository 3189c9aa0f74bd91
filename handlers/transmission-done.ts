/**
 * Transmission's script-torrent-done: a torrent is complete. Marks its info hash, wakes the reconciler,
 * and exits. Of the environment the hash alone is used, and only to look up an update: the name is the
 * choice of the torrent's maker.
 */
import { isInfoHash } from '../lib/announcement/fields.ts';
import { stateError, UpdateError } from '../lib/errors.ts';
import { runHandler } from '../lib/handler.ts';
import { markComplete } from '../lib/state/markers.ts';
import { wakeReconciler } from '../lib/wake.ts';

void runHandler('transmission-done', process.env, ({ config, log }) => {
  const infoHash = process.env['TR_TORRENT_HASH'] ?? '';
  if (!isInfoHash(infoHash))
    throw new UpdateError('usage', 'TR_TORRENT_HASH is not an info hash of 40 hex digits', {
      hint: 'Transmission runs this: set script-torrent-done-filename (docs/transmission.md)',
    });
  try {
    markComplete(config.applyDir, infoHash);
  } catch (error) {
    throw stateError(error, config.applyDir);
  }
  log({ decision: 'complete', reason: infoHash });
  wakeReconciler(config, process.env);
});
