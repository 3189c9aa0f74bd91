/** `p2p-update retire` from a checkout, by tsx without its cache: README.md#from-a-checkout. */
import { runProgram } from './cli/program.ts';

void runProgram(['retire', ...process.argv.slice(2)]);
