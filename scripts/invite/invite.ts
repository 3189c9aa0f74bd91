import { closeSync, fsyncSync, openSync, writeFileSync } from 'node:fs';
import { commandHint } from '../../lib/command-hint.ts';
import type { Config } from '../../lib/config.ts';
import { connectSerf } from '../../lib/daemons/serf/client.ts';
import { hasErrno, UpdateError } from '../../lib/errors.ts';
import { print, printJson } from '../cli/output.ts';
import type { InviteRequest } from './arguments.ts';
import { joinAddressOf, makeInvitation, pasteLine } from './make-invitation.ts';

/** A new node tries them all; more would make the line longer, and no safer. */
const maxMembers = 3;

/** Prints the invitation of this node's fleet, or writes it to a file; throws UpdateError. */
export async function invite(config: Config, { file, json }: InviteRequest): Promise<void> {
  const serf = connectSerf(config.serf);
  const self = await serf.selfName();
  const alive = (await serf.members()).filter(({ status }) => status === 'alive');
  // This node first: the person sits at it.
  const members = [...alive].sort((a, b) => Number(b.name === self) - Number(a.name === self));
  const invitation = makeInvitation(config, members.slice(0, maxMembers).map(joinAddressOf));
  if (file === null) {
    if (json) printJson(invitation);
    else print(`${pasteLine({ ...invitation, join: invitation.join.slice(0, 1) })}\n`);
    return;
  }
  writeNew(file, `${invitation.token}\n`);
  if (json) printJson({ join: invitation.join, file });
  else
    print(
      `${file} is a secret: carry it to the next machine, and there, as root:\n${commandHint('setup', '--invite', file)}\n`,
    );
}

function writeNew(file: string, text: string): void {
  let descriptor: number | undefined;
  try {
    // Exclusive: neither replaces a file nor follows a link.
    descriptor = openSync(file, 'wx', 0o600);
    writeFileSync(descriptor, text);
    fsyncSync(descriptor);
  } catch (cause) {
    if (hasErrno(cause, 'EEXIST'))
      throw new UpdateError('refused', `${file} exists`, { hint: 'choose another name', cause });
    throw new UpdateError('usage', `cannot write ${file}`, {
      hint: 'choose a directory that you may write to',
      cause,
    });
  } finally {
    if (descriptor !== undefined) closeSync(descriptor);
  }
}
