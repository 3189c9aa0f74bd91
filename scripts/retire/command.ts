import { loadConfig } from '../../lib/config.ts';
import { connectSerf } from '../../lib/daemons/serf/client.ts';
import { defineRequestCommand } from '../cli/define-command.ts';
import { help, parseRequest } from './arguments.ts';
import { retireNodes } from './retire.ts';

/** Takes nodes out of the fleet. */
export const retire = defineRequestCommand('retire', help, parseRequest, (request) =>
  retireNodes(connectSerf(loadConfig(process.env).serf), request),
);
