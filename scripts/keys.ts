/** `p2p-update keys` from a checkout, by tsx without its cache: README.md#from-a-checkout. */
import { runProgram } from './cli/program.ts';

void runProgram(['keys', ...process.argv.slice(2)]);
