import { connectSerf } from '../../lib/daemons/serf/client.ts';
import { defineRequestCommand } from '../cli/define-command.ts';
import { loadOperatorConfig } from '../cli/operator.ts';
import { help, parseRequest } from './arguments.ts';
import { retireNodes } from './retire.ts';

/** Takes nodes out of the fleet. */
export const retire = defineRequestCommand('retire', help, parseRequest, (request) =>
  retireNodes(connectSerf(loadOperatorConfig(process.env).serf), request),
);
