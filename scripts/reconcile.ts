/**
 * Brings this node up to date with what it knows: started by the handlers, by a timer or cron, or by
 * a person. Safe to run at any time, and as often as one likes.
 */
import { runSides } from './run-sides.ts';

const help = `Usage: reconcile [--help]

Queues accepted updates in Transmission, applies what is complete, and cleans up. The handlers start
it; a timer or cron should too, once a minute and at boot. What it did is in events.log of "stateDir"
and of "applyDir".

Run by the owner of "stateDir" alone it only advances, run by root it does both, each as its own user.

Exit status: 0 done (also when another reconcile is at it), 69 Transmission is down, 75 try again
later, 78 configuration.
`;

void runSides('reconcile', help, ['advance', 'apply']);
