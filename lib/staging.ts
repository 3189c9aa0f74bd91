import { mkdirSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Config } from './config.ts';
import { copyVerified } from './content-copy.ts';
import type { LoggedEvent } from './event-log.ts';
import {
  newProgress,
  outcomesDir,
  readProgress,
  writeProgress,
  type Progress,
} from './progress.ts';
import { completionMarker, listComplete, listDirectory } from './store.ts';
import {
  contentLocation,
  idOf,
  isExpired,
  parseUpdateKey,
  updateKey,
  type Update,
  type UpdateId,
} from './update.ts';

const maxBadContent = 2;

export interface ApplyDeps {
  /** Unix seconds. */
  now: () => number;
  log: (event: Omit<LoggedEvent, 'handler'>) => void;
}

/** The directory of one update's staged copy, and the copy, which has the announced name. */
export function stagingOf(applyDir: string, update: Update): { directory: string; copy: string } {
  const directory = join(applyDir, 'staging', updateKey(update));
  return { directory, copy: join(directory, 'content', update.name) };
}

export function removeStaging(applyDir: string, id: UpdateId): void {
  rmSync(join(applyDir, 'staging', updateKey(id)), { recursive: true, force: true });
}

/** COMPLETE -> STAGED, or what else follows from the content that Transmission has. */
export async function stage(config: Config, deps: ApplyDeps, update: Update): Promise<void> {
  const { applyDir, stateDir } = config;
  const outcome = readProgress(outcomesDir(applyDir), update);
  if (outcome !== undefined && outcome.state !== 'QUEUED') {
    // A marker for what was staged already: the hook fired twice.
    if (outcome.state !== 'APPLYING')
      rmSync(completionMarker(stateDir, update.infoHash), { force: true });
    return;
  }
  if (!listComplete(stateDir).includes(update.infoHash)) return;
  if (update.notBefore > deps.now()) return;

  const settle = (state: Progress['state'], reason: string, more: Partial<Progress> = {}): void => {
    // An outcome begins where advance's record ends.
    const from = { ...(outcome ?? newProgress(update)), state: 'COMPLETE' as const };
    writeProgress(
      outcomesDir(applyDir),
      update,
      from,
      { ...more, state, reason },
      deps.now(),
      0o644,
    );
    rmSync(completionMarker(stateDir, update.infoHash), { force: true });
    deps.log({
      decision: state.toLowerCase(),
      reason,
      ...idOf(update),
    });
  };

  if (isExpired(update, deps.now())) {
    settle('EXPIRED', 'it expired before it could be applied');
    return;
  }
  if (!update.rerun && update.sha256 !== null && lastApplied(applyDir, update) === update.sha256) {
    settle('APPLIED', 'this content is applied already');
    return;
  }
  const mismatch = await copyToStaging(config, update);
  if (mismatch === undefined) {
    settle('STAGED', 'verified');
    return;
  }
  removeStaging(applyDir, update);
  const badContent = (outcome?.badContent ?? 0) + 1;
  const reason = `the downloaded content is not what was announced: ${mismatch}`;
  settle(badContent > maxBadContent ? 'REJECTED' : 'QUEUED', reason, { badContent });
}

/** Tries where this node's daemon has content: below the download or the publish directory. */
export async function copyToStaging(config: Config, update: Update): Promise<string | undefined> {
  let mismatch: string | undefined;
  for (const base of [config.downloadDir, config.publishDir]) {
    removeStaging(config.applyDir, update);
    const { copy } = stagingOf(config.applyDir, update);
    mkdirSync(dirname(copy), { recursive: true, mode: 0o700 });
    const found = await copyVerified(contentLocation(update, base).file, copy, update);
    if (found === undefined) return undefined;
    // What the first place has wrong tells more than its absence in the second.
    mismatch = mismatch === undefined || mismatch === 'there is no such file' ? found : mismatch;
  }
  return mismatch;
}

/** The SHA-256 of what this channel applied last; undefined when it applied nothing yet. */
function lastApplied(applyDir: string, update: Update): string | null | undefined {
  const directory = outcomesDir(applyDir);
  return listDirectory(directory)
    .flatMap((name) => parseUpdateKey(name) ?? [])
    .filter(({ channel, version }) => channel === update.channel && version < update.version)
    .sort((a, b) => b.version - a.version)
    .map((id) => readProgress(directory, id))
    .find((outcome) => outcome?.state === 'APPLIED')?.sha256;
}
