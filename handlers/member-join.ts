/**
 * Serf event `member-join`: members have joined, who may hold updates that this node lacks. Rings, wakes
 * the reconciler, and exits: Serf is blocked until then, so that no query is sent from here.
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
  // Serf reports a node's own join too, before it has found a member that could be asked.
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
