import { defineRequestCommand } from '../cli/define-command.ts';
import { loadOperatorConfig } from '../cli/operator.ts';
import { nowSeconds } from '../cli/time.ts';
import { help, parseCommand } from './arguments.ts';

/** Announces an update to the fleet. */
export const submit = defineRequestCommand(
  'submit',
  help,
  (args) => parseCommand(args, nowSeconds()),
  async (command) => {
    // Loaded here, so that help starts without it.
    const { carryOut } = await import('./carry-out.ts');
    await carryOut(command, loadOperatorConfig(process.env));
  },
);
