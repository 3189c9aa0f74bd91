/**
 * Serf event `member-join`: somebody has come, maybe with what this node lacks, maybe this node itself.
 * Rings, wakes the reconciler, and is gone: Serf is blocked as long as we are here, so nothing is asked.
 */
import { parseSerfEnvironment, readPayload } from '../lib/daemons/serf/event.ts';
import { stateError, UpdateError } from '../lib/errors.ts';
import { runHandler } from '../lib/handler.ts';
import { isJoinOurs, readCatchUp } from '../lib/reconciler/catch-up/due.ts';
import { ringJoined } from '../lib/state/facts.ts';
import { wakeReconciler } from '../lib/wake.ts';

/** Some 10,000 members. */
const maxListBytes = 2 ** 21;

void runHandler('member-join', process.env, ({ config, log }) => {
  const event = parseSerfEnvironment(process.env);
  if (event.kind !== 'member' || event.event !== 'join')
    throw new UpdateError('usage', 'this handler takes the event "member-join" only', {
      hint: 'register it in serf.json as "member-join=…/dist/handlers/member-join.cjs"',
    });
  const lines = readPayload(0, maxListBytes).toString().split('\n');
  // Serf tells a node of its own join too, before it has found anybody who could be asked.
  const joined = lines.filter((line) => line.split('\t', 1)[0] !== event.selfName).length;
  if (joined === 0) {
    log({ decision: 'ignore', reason: 'only this node itself joined' });
    return;
  }
  if (!isJoinOurs(joined, readCatchUp(config.stateDir)?.members ?? 0)) {
    log({ decision: 'ignore', reason: `${joined} joined, who ask for themselves` });
    return;
  }
  try {
    ringJoined(config.stateDir);
  } catch (error) {
    throw stateError(error, config.stateDir);
  }
  log({ decision: 'ring', reason: `${joined} joined` });
  wakeReconciler(config, process.env);
});
