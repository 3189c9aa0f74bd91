import { defineRequestCommand } from '../cli/define-command.ts';
import { help, parseCommand } from './arguments.ts';

/** Shows and changes the keys that may sign for the fleet. */
export const keys = defineRequestCommand('keys', help, parseCommand, async (command) => {
  // Loaded here, so that help starts without it.
  const { carryOut } = await import('./carry-out.ts');
  await carryOut(command);
});
