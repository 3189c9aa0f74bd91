import { defineRequestCommand } from '../cli/define-command.ts';
import { help, parseRequest } from './arguments.ts';
import { setUp } from './set-up.ts';

/** Makes this machine, or the image of one, a node. */
export const setup = defineRequestCommand('setup', help, parseRequest, setUp);
