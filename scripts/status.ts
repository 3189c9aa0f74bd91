/** `p2p-update status` from a checkout, by tsx without its cache: README.md#from-a-checkout. */
import { runProgram } from './cli/program.ts';

void runProgram(['status', ...process.argv.slice(2)]);
