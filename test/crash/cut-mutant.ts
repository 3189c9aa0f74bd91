import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { build, type Plugin } from 'esbuild';
import { repository } from '../support/run/repository.ts';

/** The code to remove from lib/system/durable-write.ts: its one call of fsync(2) on a directory. */
const flush = /(export function fsyncDirectory\([^{]*\{[\s\S]*?)fsyncSync\(descriptor\);/;

/**
 * Builds the programs anew without the flush of directories: a rename then waits for the journal. The
 * check that is to find every loss must find some here.
 *
 * @param dist gets them, under the names that they have in dist/
 */
export async function buildMutant(dist: string): Promise<void> {
  await build({
    absWorkingDir: repository,
    entryPoints: [
      ...['update', 'transmission-done'].map((name) => ({
        in: `handlers/${name}.ts`,
        out: `handlers/${name}`,
      })),
      { in: 'scripts/p2p-update.ts', out: 'p2p-update' },
    ],
    outdir: dist,
    outExtension: { '.js': '.cjs' },
    bundle: true,
    platform: 'node',
    format: 'cjs',
    plugins: [withoutFlush],
    define: {
      'import.meta.dirname': '__dirname',
      'import.meta.filename': '__filename',
      p2pUpdateBuildTime: '1',
    },
    logLevel: 'error',
  });
}

const withoutFlush: Plugin = {
  name: 'without-flush',
  setup(builder) {
    builder.onLoad({ filter: /[/\\]lib[/\\]system[/\\]durable-write\.ts$/ }, async () => {
      const source = await readFile(join(repository, 'lib', 'system', 'durable-write.ts'), 'utf8');
      const contents = source.replace(flush, '$1');
      if (contents === source)
        throw new Error('lib/system/durable-write.ts has no flush of a directory to take out');
      return { contents, loader: 'ts' };
    });
  },
};
