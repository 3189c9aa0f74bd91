import { help, parseRequest } from './arguments.ts';
import { makeFleetKeys } from './make-keys.ts';
import { defineCommand } from '../cli/define-command.ts';
import { print } from '../cli/output.ts';

/** Makes the keys of a new fleet. */
export const keygen = defineCommand('keygen', help, (args) => {
  const request = parseRequest(args);
  if (request === undefined) {
    print(help);
    return;
  }
  makeFleetKeys(request);
});
