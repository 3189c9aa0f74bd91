/**
 * Brings this node up to date with what it knows: started by the handlers, by a timer or cron, or by
 * a person. Safe to run at any time, and as often as one likes.
 */
import { parseArgs } from 'node:util';
import { loadConfig } from '../lib/config.ts';
import { UpdateError, exitStatus, formatError } from '../lib/errors.ts';
import { reconcile } from '../lib/reconcile.ts';

const help = `Usage: reconcile [--help]

Queues accepted updates in Transmission, applies what is complete, and cleans up. The handlers start
it; a timer or cron should too, once a minute and at boot. What it did is in events.log.

Exit status: 0 done (also when another reconcile is at it), 69 Transmission is down, 75 try again
later, 78 configuration.
`;

async function main(): Promise<void> {
  const { values } = parseOptions();
  if (values.help === true) {
    process.stdout.write(help);
    return;
  }
  await reconcile(loadConfig(process.env), (message) => {
    process.stderr.write(`reconcile: warning: ${message}\n`);
  });
}

function parseOptions(): { values: { help?: boolean | undefined } } {
  try {
    return parseArgs({ options: { help: { type: 'boolean', short: 'h' } } });
  } catch (cause) {
    throw new UpdateError('usage', cause instanceof Error ? cause.message : String(cause), {
      hint: 'reconcile --help shows the usage',
    });
  }
}

main().catch((error: unknown) => {
  process.stderr.write(formatError('reconcile', error));
  process.exitCode = exitStatus(error);
});
