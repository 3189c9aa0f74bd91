/**
 * Brings this node up to date with what it knows: started by the handlers, by a timer or cron, or by
 * a person. Safe to run at any time, and as often as one likes.
 */
import { runSides } from './cli/run-sides.ts';

const help = `Usage: reconcile [--retry [CHANNEL@VERSION]]

Queues accepted updates in Transmission, applies what is complete, and cleans up. The handlers start
it; a timer or cron should too, once a minute and at boot. What it did is in events.log of "stateDir"
and of "applyDir".

Run by the owner of "stateDir" alone it only advances, run by root it does both, each as its own user.

  --retry    first take up again what was given up (POISONED) after three failed tries, all of it or the
             one that is named, with all its tries. What has expired meanwhile, or counts no more,
             stays given up. For the owner of "applyDir", which is root
  --help

Exit status: 0 done (also when another reconcile is at it), 64 no such update here, 69 Transmission
is down, 75 try again later, 76 it was not given up or must stay so, 78 configuration.
`;

void runSides('reconcile', help, ['advance', 'apply'], { retry: true });
