/**
 * Serf query `update-status`: how far is this update, `channel@version`, on this node? What is printed
 * is the response.
 */
import { UpdateError } from '../lib/errors.ts';
import { runHandler } from '../lib/handler.ts';
import { formatStatus, statusOf } from '../lib/node-status.ts';
import { parseSerfEnvironment, readPayload } from '../lib/serf-event.ts';
import { parseUpdateName } from '../lib/update.ts';

void runHandler('status', process.env, ({ config }) => {
  const event = parseSerfEnvironment(process.env);
  if (event.kind !== 'query' || event.name !== 'update-status')
    throw new UpdateError('usage', 'this handler answers the query "update-status" only', {
      hint: 'register it in serf.json as "query:update-status=…/dist/handlers/status.cjs"',
    });
  const id = parseUpdateName(readPayload().toString('latin1'));
  if (id === undefined)
    throw new UpdateError('malformed', 'the query names no update', {
      hint: 'ask for channel@version',
    });
  process.stdout.write(`${formatStatus(statusOf(config, id))}\n`);
});
