import { dirname, resolve } from 'node:path';
import type { FollowUp } from './follow-ups.ts';
import type { SetupStep } from './plan.ts';
import { ancestorsOf, requireRootOnly, type Machine } from './rules.ts';

/** Link on PATH, so that hints and guides can name the program without a directory. */
export const programLink = '/usr/local/bin/p2p-update';
/** The link of the Debian package, which leads to the same place. */
const packagedLink = '/usr/bin/p2p-update';

/**
 * Decides how the program gets on PATH: by a link of root's. Another file of that name stays as it is, and
 * so does a directory that others can change: each is a follow-up. The Debian package has a link already.
 *
 * @param target the program, seen from the machine
 */
export function planProgramLink(
  target: string,
  machine: Machine,
): { steps: SetupStep[]; followUps: FollowUp[] } {
  const { look, follow } = machine;
  if (follow(programLink) === target) return { steps: [], followUps: [] };
  const packaged = follow(packagedLink);
  const isPackaged = packaged !== undefined && resolve(dirname(packagedLink), packaged) === target;
  if (isPackaged && look(programLink) === undefined) return { steps: [], followUps: [] };
  if (look(programLink) !== undefined)
    return {
      steps: [],
      followUps: [
        {
          what: `${programLink} is something else: to have the program there, put a link in its place`,
          commands: [`ln -sfn ${target} ${programLink}`],
        },
      ],
    };
  const without = (why: string) => ({
    steps: [],
    followUps: [{ what: `${why}: name the program in full`, commands: [`${target} help`] }],
  });
  const missing: string[] = [];
  for (const parent of ancestorsOf(programLink)) {
    const found = look(parent);
    try {
      if (found === undefined) missing.push(parent);
      else requireRootOnly(parent, found);
    } catch {
      return without(`others can change ${parent}, so no link to the program was put there`);
    }
    if (machine.isReadOnly(parent) && parent === dirname(programLink))
      return without(`${parent} cannot be written, so there is no link to the program`);
  }
  const ownership = { owner: 'root', group: 'root', mode: 0o755 };
  return {
    steps: [
      ...missing.map((path) => ({ kind: 'make-directory' as const, path, ownership })),
      { kind: 'make-link', path: programLink, target },
    ],
    followUps: [],
  };
}
