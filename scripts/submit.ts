/** `p2p-update submit` from a checkout, by tsx without its cache: README.md#from-a-checkout. */
import { runProgram } from './cli/program.ts';

void runProgram(['submit', ...process.argv.slice(2)]);
