import { loadConfig, type Config } from './config.ts';
import { UpdateError, describeError, exitStatus, formatError } from './errors.ts';
import { logEvent, type LoggedEvent } from './system/event-log.ts';

export interface HandlerContext {
  config: Config;
  /** Appends to events.log in this handler's name. */
  log: (event: Omit<LoggedEvent, 'handler'>) => void;
}

/**
 * Runs a handler: reads the configuration, sees that each wake-up has one line in events.log, and turns
 * errors into lines on stderr and an exit status.
 *
 * @param main does the work and logs its decision; its errors are logged as refusal or delay
 * @param onUnusable called instead of `main` when the configuration cannot be used
 */
export async function runHandler(
  name: string,
  env: NodeJS.ProcessEnv,
  main: (context: HandlerContext) => Promise<void> | void,
  onUnusable?: (error: unknown) => void,
): Promise<void> {
  let context: HandlerContext | undefined;
  try {
    const config = loadConfig(env);
    const log: HandlerContext['log'] = (event) => {
      logEvent(config.stateDir, { handler: name, ...event });
    };
    context = { config, log };
    await main(context);
  } catch (error) {
    if (context === undefined) onUnusable?.(error);
    const delayed = error instanceof UpdateError && error.code === 'try-later';
    if (!(error instanceof LoggedError))
      context?.log({ decision: delayed ? 'wait' : 'refuse', reason: describeError(error) });
    process.stderr.write(formatError(name, error));
    process.exitCode = exitStatus(error);
  }
}

/** An error whose wake-up has its line in events.log already, with channel and version. */
export class LoggedError extends UpdateError {}
