import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { distDirectory } from '../../lib/build.ts';
import { whyNoImage } from './cut-image.ts';
import { buildMutant } from './cut-mutant.ts';
import { cutNode } from './node-cuts.ts';
import { cutPrograms, type ProgramCuts } from './program-cuts.ts';
import type { CrashOptions, CrashResult } from './result.ts';

/** Numbers of updates, of pauses in a run of apply for each cut, and of cuts of whole nodes. */
const sizes = {
  full: { updates: 9, every: 12, mutants: 6, nodes: 14 },
  short: { updates: 2, every: 40, mutants: 1, nodes: 0 },
};

/**
 * Cuts the power of a node whose files are on an ext4 image: after a handler or apply has ended with 0,
 * at instants within a run of apply, and of a whole node with its daemons. Promised facts have to be on
 * the disk, and the rest has to be made up for. The same programs without the flush of directories
 * have to fail. Runs in test/support/run/sandbox.sh only; where no image can be mounted the row says why.
 */
export async function runPowerCuts({
  short,
  seed,
  only,
  onProgress,
}: CrashOptions): Promise<CrashResult> {
  const why = whyNoImage();
  if (why !== undefined)
    return { count: 0, rows: [{ label: `power cuts skipped: ${why}`, figures: {} }], failures: [] };
  const size = short ? sizes.short : sizes.full;
  const { updates, every, mutants } = size;
  const nodes = only === undefined || only.startsWith('power cut of a node') ? size.nodes : 0;
  const directory = mkdtempSync(join(tmpdir(), 'p2p-cuts-'));
  const total = updates + mutants + nodes;
  let done = 0;
  const step = (): void => onProgress?.((done += 1), total);
  try {
    const common = { directory, seed, only, onUpdate: step };
    const real = await cutPrograms({ ...common, dist: distDirectory(), updates, every });
    const dist = join(directory, 'mutant', 'dist');
    await buildMutant(dist);
    const mutant = await cutPrograms({ ...common, dist, updates: mutants, every: undefined });
    const failures = [...real.failures, ...(await cutNode(directory, nodes, seed, step))];
    const lost = mutant.failures.filter(({ invariant }) => invariant === 'lost').length;
    const cuts = sum(mutant);
    if (only === undefined && cuts > 0 && lost === 0)
      failures.push({
        invariant: 'lost',
        point: 'power cut without the flush of directories',
        detail: `nothing was lost in ${cuts} cuts: so these checks show nothing`,
      });
    return {
      count: sum(real) + nodes,
      rows: [
        { label: 'power cuts', figures: { ...real.figures, 'of a whole node': nodes } },
        { label: 'power cuts without the flush of directories', figures: { cuts, lost } },
      ],
      failures,
    };
  } finally {
    rmSync(directory, { recursive: true });
  }
}

function sum({ figures }: ProgramCuts): number {
  return Object.values(figures).reduce((total, each) => total + each, 0);
}
