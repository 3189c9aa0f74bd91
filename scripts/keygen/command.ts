import { defineRequestCommand } from '../cli/define-command.ts';
import { help, parseRequest } from './arguments.ts';
import { makeFleetKeys } from './make-keys.ts';

/** Makes the keys of a new fleet. */
export const keygen = defineRequestCommand('keygen', help, parseRequest, makeFleetKeys);
