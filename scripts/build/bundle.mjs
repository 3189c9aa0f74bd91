/** Makes the bundles that docs/decisions/bundles.md tells of, for dist/ and for the package. */
import { basename, dirname, join, relative } from 'node:path';
import { build } from 'esbuild';
import { glob } from 'zx';

export const root = join(import.meta.dirname, '..', '..');
export const program = 'p2p-update.cjs';

/**
 * Leaves out two libraries: parse-torrent brings an implementation of fetch for torrents named by URL,
 * which it is never given here, and @ctrl/transmission brings ofetch, which our own transport replaces.
 * Without the two the bundles are a fraction as large and start sooner.
 */
const withoutFetch = {
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

/**
 * Keeps each command in a bundle that is read when the command is run: in one file they would all be
 * read, and compiled in part, at each start.
 */
const commandsApart = {
  name: 'commands-apart',
  setup(builder) {
    builder.onResolve({ filter: /^\.\.\/\w+\/command\.ts$/ }, ({ path }) => ({
      path: `./commands/${basename(dirname(path))}.cjs`,
      external: true,
    }));
  },
};

/**
 * Says at once that a Node is too old, in words that the Node of Debian 10 can read: the rest of the program
 * fails on it with words of its own. Whoever starts anything else has run the program before, to set it up.
 */
const refuseOldNode = `"use strict";
if (Number(process.versions.node.split(".")[0]) < 18) {
  process.stderr.write(
    "p2p-update: error: p2p-update needs Node 18 or newer, this is " + process.versions.node + "\\n" +
    "p2p-update: hint: Debian 12 and 13 have it: apt-get install nodejs\\n");
  process.exit(69);
}`;

/**
 * Makes the bundles: path below dist/ and content, each after those that it starts; and names the files,
 * below the tree, that they were made of.
 *
 * @param shebang first line of each program
 * @param buildTime unix seconds; a node's clock before that is wrong
 */
export async function bundle({ version, shebang, buildTime }) {
  const how = {
    absWorkingDir: root,
    outdir: join(root, 'dist'),
    outExtension: { '.js': '.cjs' },
    write: false,
    metafile: true,
    bundle: true,
    // The bundles name their sources: the same wherever node_modules really lies.
    preserveSymlinks: true,
    platform: 'node',
    format: 'cjs',
    // The oldest Node that a node of the fleet may have: Debian 12's.
    target: 'node18',
    // Smaller files are read and compiled sooner; names stay, for stack traces.
    minifySyntax: true,
    minifyWhitespace: true,
    plugins: [withoutFetch],
    define: {
      'import.meta.dirname': '__dirname',
      'import.meta.filename': '__filename',
      p2pUpdateBuildTime: String(buildTime),
      p2pUpdateVersion: JSON.stringify(version),
    },
    logLevel: 'warning',
  };
  const banner = { js: shebang };
  const commands = await glob('scripts/*/command.ts', { cwd: root });
  const handlers = await glob('handlers/*.ts', { cwd: root });
  const results = [
    await build({
      ...how,
      entryPoints: commands.map((file) => ({
        in: file,
        out: `commands/${basename(dirname(file))}`,
      })),
    }),
    await build({
      ...how,
      banner: { js: `${shebang}\n${refuseOldNode}` },
      target: 'node10',
      plugins: [commandsApart],
      // A bundle is CommonJS: require() reads it at once, import() by way of the loader of ES modules.
      supported: { 'dynamic-import': false },
      entryPoints: [{ in: 'scripts/p2p-update.ts', out: basename(program, '.cjs') }],
    }),
    await build({
      ...how,
      banner,
      entryPoints: handlers.map((file) => ({ in: file, out: file.replace(/\.ts$/, '') })),
    }),
  ];
  const files = results
    .flatMap(({ outputFiles }) => outputFiles)
    .map(({ path, contents }) => ({ path: relative(how.outdir, path), contents }));
  return { files, sources: results.flatMap(({ metafile }) => Object.keys(metafile.inputs)) };
}
