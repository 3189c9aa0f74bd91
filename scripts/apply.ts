/**
 * The apply side of a node, which is root's: started by a path unit when a torrent was marked as
 * complete, and by a timer or cron. Takes no input but those marks.
 */
import { runSides } from './cli/run-sides.ts';

const help = `Usage: apply [--help]

Stages what Transmission has completed, verifies it from its own copy, and applies what is due. Runs
as the owner of "applyDir", which is root but where one user runs everything. A path unit, a timer or
cron starts it. What it did is in events.log of "applyDir".

Exit status: 0 done (also when another apply is at it), 75 try again later, 78 configuration.
`;

void runSides('apply', help, ['apply'], { retry: false });
