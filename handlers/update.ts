/**
 * Serf user event `update`: an announcement. Verifies the payload on stdin, keeps it if it is the newest
 * of its channel, wakes the reconciler, and exits.
 */
import { acceptPayload } from '../lib/state/accept.ts';
import { buildTime } from '../lib/build.ts';
import { UpdateError } from '../lib/errors.ts';
import { LoggedError, runHandler } from '../lib/handler.ts';
import { parseSerfEnvironment, readPayload } from '../lib/daemons/serf/event.ts';
import { wakeReconciler } from '../lib/wake.ts';

void runHandler('update', process.env, async ({ config, log }) => {
  const event = parseSerfEnvironment(process.env);
  if (event.kind !== 'user' || event.name !== 'update')
    throw new UpdateError('usage', 'this handler takes the user event "update" only', {
      hint: 'register it in serf.json as "user:update=…/dist/handlers/update.cjs"',
    });
  const nowSeconds = Math.floor(Date.now() / 1000);
  const deps = { nowSeconds, buildTime };
  const { update, decision } = await acceptPayload(readPayload(), config, deps);
  const { channel, version } = update;
  log({ decision: decision.kind, reason: decision.reason, channel, version });
  switch (decision.kind) {
    case 'accept':
    case 'ring':
      wakeReconciler(config, process.env);
      break;
    case 'wait':
      throw new LoggedError('try-later', decision.reason, { hint: decision.hint });
    case 'refuse':
      throw new LoggedError('refused', decision.reason, { hint: decision.hint });
    default:
      decision satisfies never;
  }
});
