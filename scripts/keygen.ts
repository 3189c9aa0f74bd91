/** `p2p-update keygen` from a checkout, by tsx without its cache: README.md#from-a-checkout. */
import { runProgram } from './cli/program.ts';

void runProgram(['keygen', ...process.argv.slice(2)]);
