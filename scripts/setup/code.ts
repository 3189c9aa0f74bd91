import { join } from 'node:path';
import { UpdateError } from '../../lib/errors.ts';
import { ancestorsOf, requireRootOnly, requireSafePath, type Machine } from './rules.ts';

/** Programs that the units, cron, Serf and Transmission start. */
const programs = ['p2p-update.cjs', 'handlers/update.cjs', 'handlers/transmission-done.cjs'];

/**
 * Checks that p2p-update is built, that root alone can change what root will run, Node included, and
 * that the other users can run it.
 *
 * @param directory where the code is, seen from the machine
 * @throws UpdateError `configuration`
 */
export function checkCode(directory: string, machine: Machine): void {
  requireSafePath(directory);
  checkPath(directory, directory, machine);
  for (const folder of ['dist', 'dist/handlers', 'dist/commands'].map((f) => join(directory, f)))
    for (const name of machine.list(folder)) checkPath(join(folder, name), directory, machine);
  // Checked here, since Node's own message for a missing bundle has no hint.
  if (machine.look(join(directory, 'dist/commands/reconcile.cjs')) === undefined)
    throw notBuilt(join(directory, 'dist/commands/reconcile.cjs'), directory);
  for (const program of programs) {
    const file = join(directory, 'dist', program);
    const firstLine = machine.read(file)?.split('\n', 1)[0];
    if (firstLine === undefined) throw notBuilt(file, directory);
    const node = /^#!(\/\S+)$/.exec(firstLine)?.[1];
    if (node === undefined)
      throw new UpdateError('configuration', `${file} does not name its Node by absolute path`, {
        hint: 'build with a Node whose path is short and has no white space: npm run build',
      });
    if (machine.look(node) === undefined)
      throw new UpdateError('configuration', `${file} is run by ${node}, which is missing`, {
        hint: 'install Node there, or build with the Node of this machine: npm run build',
      });
    checkPath(node, node, machine);
  }
}

function notBuilt(file: string, directory: string): UpdateError {
  return new UpdateError('configuration', `${file} is missing: p2p-update is not built`, {
    hint: `build it there: cd ${directory} && npm ci && npm run build`,
  });
}

/**
 * Checks that root alone can change a path and its parents, and that other users can pass them and run it.
 *
 * @param top the path for the hint
 */
function checkPath(path: string, top: string, { look }: Machine): void {
  for (const each of [...ancestorsOf(path), path]) {
    const found = look(each);
    if (found === undefined) continue;
    try {
      requireRootOnly(each, found);
    } catch (cause) {
      throw new UpdateError('configuration', `root would run what others can change: ${top}`, {
        hint: `install it below directories of root, such as /opt; chown -R root: ${top}; chmod -R go-w,go+rX ${top}`,
        cause,
      });
    }
    if ((found.mode & 0o001) === 0 && (found.type === 'directory' || isProgram(each, top)))
      throw new UpdateError(
        'configuration',
        `${each} is closed to p2p-update and debian-transmission, which run it too`,
        { hint: `open it: chmod -R go+rX ${each}` },
      );
  }
}

function isProgram(path: string, top: string): boolean {
  return path === top || path.endsWith('.cjs');
}
