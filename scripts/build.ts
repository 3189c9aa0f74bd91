/**
 * Bundles each handler, and the scripts that handlers and units start, into one CommonJS file each
 * below dist/: why is in docs/decisions/bundles.md.
 */
import { chmod, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { build, type Plugin } from 'esbuild';

const root = join(import.meta.dirname, '..');
const handlers = (await readdir(join(root, 'handlers'))).filter((name) => name.endsWith('.ts'));
const entryPoints = [...handlers.map((name) => `handlers/${name}`), 'scripts/reconcile.ts'];

/**
 * parse-torrent brings a whole implementation of fetch for torrents named by URL. We give it bytes
 * only: without it the handlers are a quarter as large, and cannot reach the network at all.
 */
const withoutFetch: Plugin = {
  name: 'without-fetch',
  setup(builder) {
    builder.onResolve({ filter: /^cross-fetch-ponyfill$/ }, () => ({
      path: 'none',
      namespace: 'no-fetch',
    }));
    builder.onLoad({ filter: /.*/, namespace: 'no-fetch' }, () => ({
      contents: `export default () => { throw new Error('nothing is fetched by URL'); };`,
    }));
  },
};

const { metafile } = await build({
  absWorkingDir: root,
  entryPoints,
  outdir: 'dist',
  outbase: '.',
  outExtension: { '.js': '.cjs' },
  bundle: true,
  platform: 'node',
  format: 'cjs',
  target: 'node20',
  // Smaller files are read and compiled sooner; names stay, for stack traces.
  minifySyntax: true,
  minifyWhitespace: true,
  plugins: [withoutFetch],
  banner: { js: '#!/usr/bin/env node' },
  define: {
    'import.meta.dirname': '__dirname',
    p2pUpdateBuildTime: String(Math.floor(Date.now() / 1000)),
  },
  metafile: true,
  logLevel: 'warning',
});
for (const file of Object.keys(metafile.outputs)) await chmod(join(root, file), 0o755);
