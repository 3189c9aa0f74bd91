import { defineRequestCommand } from '../cli/define-command.ts';
import { loadOperatorConfig } from '../cli/operator.ts';
import { help, parseCommand } from './arguments.ts';
import { showFleet } from './show.ts';

/** Shows the updates of every node of the fleet, and whether the fleet has converged. */
export const status = defineRequestCommand('status', help, parseCommand, async (options) => {
  await showFleet(loadOperatorConfig(process.env), options);
});
