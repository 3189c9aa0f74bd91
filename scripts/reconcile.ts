/** `p2p-update reconcile` from a checkout, by tsx without its cache: README.md#from-a-checkout. */
import { runProgram } from './cli/program.ts';

void runProgram(['reconcile', ...process.argv.slice(2)]);
