import { loadConfig } from '../../lib/config.ts';
import { endBySignal, print } from '../cli/output.ts';
import { help, parseCommand } from './arguments.ts';
import { showFleet } from './show.ts';
import { defineCommand } from '../cli/define-command.ts';

/** Shows what every node of the fleet runs, and whether the fleet has converged. */
export const status = defineCommand('status', help, async (args) => {
  const command = parseCommand(args);
  if (command.kind === 'help') {
    print(help);
    return;
  }
  endBySignal();
  await showFleet(loadConfig(process.env), command);
});
