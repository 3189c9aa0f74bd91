/** `p2p-update setup` from a checkout, by tsx without its cache: README.md#from-a-checkout. */
import { runProgram } from './cli/program.ts';

void runProgram(['setup', ...process.argv.slice(2)]);
