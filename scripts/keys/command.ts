import { help, parseCommand } from './arguments.ts';
import { defineCommand } from '../cli/define-command.ts';
import { print } from '../cli/output.ts';

/** Shows and changes who may sign for the fleet. */
export const keys = defineCommand('keys', help, async (args) => {
  const command = parseCommand(args);
  if (command.kind === 'help') {
    print(help);
    return;
  }
  // Help starts without it.
  const { carryOut } = await import('./carry-out.ts');
  await carryOut(command);
});
