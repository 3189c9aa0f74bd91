import { loadConfig } from '../../lib/config.ts';
import { endBySignal, endWithReader, print } from '../cli/output.ts';
import { help, parseCommand } from './arguments.ts';
import { showLog } from './show-log.ts';
import { defineCommand } from '../cli/define-command.ts';

/** Shows what this node logged. */
export const log = defineCommand('log', help, async (args) => {
  const command = parseCommand(args);
  if (command === undefined) {
    print(help);
    return;
  }
  endBySignal();
  if (command.follow) endWithReader();
  await showLog(loadConfig(process.env), command);
});
