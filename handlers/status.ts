/**
 * Serf query `update-status`: prints the response, which is how far an update, `channel@version`, is on
 * this node; or a summary of its channels, `summary [CHANNEL]`, from the first one after CHANNEL.
 */
import { isChannel } from '../lib/announcement/fields.ts';
import { describeError, UpdateError } from '../lib/errors.ts';
import { runHandler } from '../lib/handler.ts';
import { formatStatus, statusOf } from '../lib/query/update-status.ts';
import { parseSerfEnvironment, readPayload } from '../lib/daemons/serf/event.ts';
import { faultPage, summaryPage } from '../lib/query/summary-page.ts';
import { parseUpdateName } from '../lib/announcement/update.ts';

const main: Parameters<typeof runHandler>[2] = ({ config, log }) => {
  const event = parseSerfEnvironment(process.env);
  if (event.kind !== 'query' || event.name !== 'update-status')
    throw new UpdateError('usage', 'this handler answers the query "update-status" only', {
      hint: 'register it in serf.json as "query:update-status=…/dist/handlers/status.cjs"',
    });
  const request = readPayload().toString('latin1');
  const [word, after = '', ...more] = request.split(' ');
  if (word === 'summary' && more.length === 0 && (after === '' || isChannel(after))) {
    process.stdout.write(`${summaryPage(config, after, Math.floor(Date.now() / 1000))}\n`);
    log({ decision: 'answer', reason: request });
    return;
  }
  const id = parseUpdateName(request);
  if (id === undefined)
    throw new UpdateError('malformed', 'the query names no update', {
      hint: 'ask for channel@version, or summary [CHANNEL]',
    });
  const status = statusOf(config, id);
  process.stdout.write(`${formatStatus(status)}\n`);
  log({ decision: 'answer', reason: status.state, ...id });
};

void runHandler('status', process.env, main, (error) => {
  // Silence would look like a node that is cut off.
  if (readPayload().toString('latin1').startsWith('summary'))
    process.stdout.write(`${faultPage(describeError(error))}\n`);
});
