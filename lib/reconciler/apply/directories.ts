import { chmodSync, existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { completeDir, completeDirMode } from '../../state/markers.ts';
import { UpdateError } from '../../errors.ts';
import { keySetsDir } from '../../state/key-chain.ts';
import { outcomesDir } from '../../state/progress.ts';

/** Also the proof that the apply side was at work here before. */
export const applyLock = 'apply.lock';

/** Creates what is missing of the apply side's directories; staging is closed to everybody else. */
export function prepareApplyDir(applyDir: string): void {
  if (existsSync(join(applyDir, applyLock)) && !existsSync(outcomesDir(applyDir)))
    throw new UpdateError('configuration', `what this node applied is gone: ${applyDir}/outcomes`, {
      hint: `bring it back, or remove ${applyDir} to have it all applied again, as on a new node`,
    });
  const modes: [directory: string, mode: number][] = [
    [applyDir, 0o755],
    [outcomesDir(applyDir), 0o755],
    [keySetsDir(applyDir), 0o755],
    [join(applyDir, 'modules'), 0o755],
    [join(applyDir, 'staging'), 0o700],
    [join(applyDir, 'runs'), 0o700],
    [completeDir(applyDir), completeDirMode],
  ];
  for (const [directory, mode] of modes)
    // The modes are these whatever the umask is; a set-up's own group stays.
    if (mkdirSync(directory, { recursive: true, mode: 0o700 }) !== undefined)
      chmodSync(directory, mode);
}
