import { defineRequestCommand } from '../cli/define-command.ts';
import { loadOperatorConfig } from '../cli/operator.ts';
import { help, parseRequest } from './arguments.ts';
import { invite as inviteMachine } from './invite.ts';

/** Makes the invitation for a further machine. */
export const invite = defineRequestCommand('invite', help, parseRequest, (request) =>
  inviteMachine(loadOperatorConfig(process.env), request),
);
