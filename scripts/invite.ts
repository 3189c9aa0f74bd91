/** `p2p-update invite` from a checkout, by tsx without its cache: README.md#from-a-checkout. */
import { runProgram } from './cli/program.ts';

void runProgram(['invite', ...process.argv.slice(2)]);
