/**
 * Serf query `update-status`: prints the response, which is how far an update, `channel@version`, is on
 * this node; or a summary of its channels, `summary [CHANNEL]`, from the first one after CHANNEL; or whether
 * this node is a target, `target CHANNEL EXPR`.
 */
import { isChannel } from '../lib/announcement/fields.ts';
import { describeError, UpdateError } from '../lib/errors.ts';
import { runHandler } from '../lib/handler.ts';
import { downloadsOf } from '../lib/query/downloads.ts';
import { formatStatus, statusOf } from '../lib/query/update-status.ts';
import { parseSerfEnvironment, readPayload } from '../lib/daemons/serf/event.ts';
import { answerTarget, parseTargetRequest } from '../lib/query/target-answer.ts';
import { faultPage, summaryPage } from '../lib/query/summary-page.ts';
import { parseUpdateName } from '../lib/announcement/update.ts';

const main: Parameters<typeof runHandler>[2] = async ({ config, log }) => {
  const event = parseSerfEnvironment(process.env);
  if (event.kind !== 'query' || event.name !== 'update-status')
    throw new UpdateError('usage', 'this handler answers the query "update-status" only', {
      hint: 'register it in serf.json as "query:update-status=…/dist/handlers/status.cjs"',
    });
  const request = readPayload().toString('latin1');
  const [word, after = '', ...more] = request.split(' ');
  if (word === 'summary' && more.length === 0 && (after === '' || isChannel(after))) {
    const nowSeconds = Math.floor(Date.now() / 1000);
    const page = await summaryPage(config, after, nowSeconds, downloadsOf(config));
    process.stdout.write(`${page}\n`);
    log({ decision: 'answer', reason: request });
    return;
  }
  const asked = parseTargetRequest(request);
  if (asked !== undefined) {
    process.stdout.write(`${answerTarget(config, asked)}\n`);
    log({ decision: 'answer', reason: request });
    return;
  }
  const id = parseUpdateName(request);
  if (id === undefined)
    throw new UpdateError('malformed', 'the query names no update', {
      hint: 'ask for channel@version, summary [CHANNEL], or target CHANNEL EXPR',
    });
  const status = await statusOf(config, id, downloadsOf(config));
  process.stdout.write(`${formatStatus(status)}\n`);
  log({ decision: 'answer', reason: status.state, ...id });
};

void runHandler('status', process.env, main, (error) => {
  // Silence would look like a node that is cut off.
  if (readPayload().toString('latin1').startsWith('summary'))
    process.stdout.write(`${faultPage(describeError(error))}\n`);
});
