/**
 * The program of operators and nodes, `p2p-update COMMAND`; `npm run build` makes dist/p2p-update.cjs of it.
 */
import { runProgram } from './cli/program.ts';

void runProgram(process.argv.slice(2));
