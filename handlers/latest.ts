/**
 * Serf query `update-latest`: prints the response, which is a digest of the announcements that this node
 * holds, some of them in full, or the newest version of a channel. A request to add a torrent anew is kept
 * for the reconciler, which it wakes.
 */
import { UpdateError } from '../lib/errors.ts';
import { runHandler } from '../lib/handler.ts';
import { answerRequest, latestQuery, parseRequest, reseedTaken } from '../lib/query/latest.ts';
import { parseSerfEnvironment, readPayload } from '../lib/daemons/serf/event.ts';
import { wakeReconciler } from '../lib/wake.ts';

void runHandler('latest', process.env, async ({ config, log }) => {
  const event = parseSerfEnvironment(process.env);
  if (event.kind !== 'query' || event.name !== latestQuery)
    throw new UpdateError('usage', `this handler answers the query "${latestQuery}" only`, {
      hint: 'register it in serf.json as "query:update-latest=…/dist/handlers/latest.cjs"',
    });
  const request = parseRequest(readPayload().toString('latin1'));
  const answer = await answerRequest(request, config, Date.now() / 1000);
  log({ decision: 'answer', reason: `${request.kind}: ${answer.length} characters` });
  process.stdout.write(answer);
  if (request.kind === 'reseed' && answer === reseedTaken) wakeReconciler(config, process.env);
});
