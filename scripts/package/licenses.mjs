/** The copyright file: this software's licence, and those of the libraries in the bundles. */
import { readdir, readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { root } from '../build/bundle.mjs';

/**
 * The text of the copyright file.
 *
 * @param sources paths of the bundled files, seen from the tree
 */
export async function copyrightText(sources) {
  const directories = new Map();
  for (const source of sources) {
    const found = /^(.*node_modules\/((?:@[^/]+\/)?[^/]+))\//.exec(source);
    if (found !== null) directories.set(found[2], resolve(root, found[1]));
  }
  const libraries = await Promise.all(
    [...directories].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, directory]) => about(directory)),
  );
  return `p2p-update
Copyright: the authors of p2p-update
License: Apache-2.0

On Debian systems the text of the Apache License 2.0 is in /usr/share/common-licenses/Apache-2.0.

The programs below /usr/lib/p2p-update/dist contain the libraries that follow, each with its own license.
${libraries.join('')}`;
}

async function about(directory) {
  const { name, version, license } = JSON.parse(
    await readFile(join(directory, 'package.json'), 'utf8'),
  );
  const file = (await readdir(directory)).sort().find((each) => /^licen[cs]e/i.test(each));
  const text =
    file === undefined ? `License: ${license}` : await readFile(join(directory, file), 'utf8');
  return `\n${'-'.repeat(72)}\n${name} ${version} (${license})\n\n${text.trim()}\n`;
}
