import { type Command, defineRequestCommand } from '../cli/define-command.ts';
import { loadOperatorConfig } from '../cli/operator.ts';
import { nowSeconds } from '../cli/time.ts';
import { help, type Mode, parseCommand, renewHelp, withdrawHelp } from './arguments.ts';

/** Announces an update to the fleet. */
export const submit = define(help, 'submit');
/** Signs a kept announcement again: `submit --renew`. */
export const renew = define(renewHelp, 'renew');
/** Stops a channel's current update: `submit --withdraw`. */
export const withdraw = define(withdrawHelp, 'withdraw');

function define(text: string, mode: Mode): Command {
  return defineRequestCommand(
    'submit',
    text,
    (args) => parseCommand(args, nowSeconds(), mode),
    async (command) => {
      // Loaded here, so that help starts without it.
      const { carryOut } = await import('./carry-out.ts');
      await carryOut(command, loadOperatorConfig(process.env));
    },
  );
}
