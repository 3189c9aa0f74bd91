import { help, parseRequest } from './arguments.ts';
import { setUp } from './set-up.ts';
import { defineCommand } from '../cli/define-command.ts';
import { print } from '../cli/output.ts';

/** Makes this machine, or the image of one, a node. */
export const setup = defineCommand('setup', help, (args) => {
  const request = parseRequest(args);
  if (request === undefined) {
    print(help);
    return;
  }
  setUp(request);
});
