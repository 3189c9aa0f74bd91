import { loadConfig } from '../../lib/config.ts';
import { defineRequestCommand } from '../cli/define-command.ts';
import { help, parseCommand } from './arguments.ts';
import { showFleet } from './show.ts';

/** Shows the updates of every node of the fleet, and whether the fleet has converged. */
export const status = defineRequestCommand('status', help, parseCommand, async (options) => {
  await showFleet(loadConfig(process.env), options);
});
