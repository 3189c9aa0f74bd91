/**
 * Bundles each handler, and the scripts that handlers and units start, into one CommonJS file each
 * below dist/: why is in docs/decisions/bundles.md.
 */
import { chmod, readFile, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { build, type Plugin } from 'esbuild';

const root = join(import.meta.dirname, '..');
const { version } = JSON.parse(await readFile(join(root, 'package.json'), 'utf8')) as {
  version: string;
};
const handlers = (await readdir(join(root, 'handlers'))).filter((name) => name.endsWith('.ts'));
const entryPoints = [
  ...handlers.map((name) => `handlers/${name}`),
  'scripts/reconcile.ts',
  'scripts/apply.ts',
];

/**
 * The Node that builds, by absolute path: what root runs must not depend on somebody's PATH. A path
 * with white space, or too long for the kernel (128 bytes before Linux 5.1), cannot be in a shebang.
 */
function shebang(): string {
  const node = process.execPath;
  if (!/\s/.test(node) && node.length <= 120) return `#!${node}`;
  process.stderr.write(`build: warning: ${node} cannot be in a shebang: taking node from PATH\n`);
  return '#!/usr/bin/env node';
}

/**
 * parse-torrent brings a whole implementation of fetch for torrents named by URL, which we never give
 * it, and @ctrl/transmission brings ofetch, which our own transport replaces. Without the two the
 * bundles are a fraction as large and start sooner.
 */
const withoutFetch: Plugin = {
  name: 'without-fetch',
  setup(builder) {
    builder.onResolve({ filter: /^(cross-fetch-ponyfill|ofetch)$/ }, () => ({
      path: 'none',
      namespace: 'no-fetch',
    }));
    builder.onLoad({ filter: /.*/, namespace: 'no-fetch' }, () => ({
      contents: `
        export default () => { throw new Error('nothing is fetched by URL'); };
        export const ofetch = undefined;
        export class FetchError extends Error {}`,
    }));
  },
};

// What an earlier version built must not be run by mistake.
await rm(join(root, 'dist'), { recursive: true, force: true });
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
  banner: { js: shebang() },
  define: {
    'import.meta.dirname': '__dirname',
    p2pUpdateBuildTime: String(Math.floor(Date.now() / 1000)),
    p2pUpdateVersion: JSON.stringify(version),
  },
  metafile: true,
  logLevel: 'warning',
});
for (const file of Object.keys(metafile.outputs)) await chmod(join(root, file), 0o755);
