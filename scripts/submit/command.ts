import { loadConfig } from '../../lib/config.ts';
import { help, parseCommand } from './arguments.ts';
import { defineCommand } from '../cli/define-command.ts';
import { print } from '../cli/output.ts';

/** Announces an update to the fleet. */
export const submit = defineCommand('submit', help, async (args) => {
  const command = parseCommand(args, Math.floor(Date.now() / 1000));
  if (command.kind === 'help') {
    print(help);
    return;
  }
  // Help starts without it.
  const { carryOut } = await import('./carry-out.ts');
  await carryOut(command, loadConfig(process.env));
});
