/** `p2p-update apply` from a checkout, by tsx without its cache: README.md#from-a-checkout. */
import { runProgram } from './cli/program.ts';

void runProgram(['apply', ...process.argv.slice(2)]);
