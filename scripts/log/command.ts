import { defineRequestCommand } from '../cli/define-command.ts';
import { loadOperatorConfig } from '../cli/operator.ts';
import { endWithReader } from '../cli/output.ts';
import { help, parseCommand } from './arguments.ts';
import { showLog } from './show-log.ts';

/** Shows the log of this node. */
export const log = defineRequestCommand('log', help, parseCommand, async (options) => {
  if (options.follow) endWithReader();
  await showLog(loadOperatorConfig(process.env), options);
});
