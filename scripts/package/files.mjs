/** The files of the package, path below / to content or link. */
import { execFileSync } from 'node:child_process';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { bundle, program, root } from '../build/bundle.mjs';
import { bashCompletion, zshCompletion } from './completion.mjs';
import { debianVersion, maintainer } from './control.mjs';
import { readHelp } from './help.mjs';
import { copyrightText } from './licenses.mjs';
import { manPage } from './man-page.mjs';

const code = '/usr/lib/p2p-update';
const docs = 'usr/share/doc/p2p-update';
const templates = join(root, 'scripts', 'setup');
/** The default paths of the configuration, as set-up fills them in. */
const places = {
  '@CODE@': code,
  '@STATE@': '/var/lib/p2p-update/state',
  '@APPLY@': '/var/lib/p2p-update/apply',
};

/**
 * Makes everything that dpkg unpacks.
 *
 * @param time unix seconds, also the earliest time that a node's clock can have
 * @param work a directory to be made, for the programs whose help texts are read
 */
export async function packageFiles({ version, time, work }) {
  const { files: bundles, sources } = await bundle({
    version,
    shebang: '#!/usr/bin/node',
    buildTime: time,
  });
  for (const { path, contents } of bundles) {
    await mkdir(dirname(join(work, path)), { recursive: true });
    await writeFile(join(work, path), contents);
  }
  const help = await readHelp(join(work, program));
  const programs = bundles.map(({ path, contents }) => ({
    path: `${code.slice(1)}/dist/${path}`,
    mode: 0o755,
    contents,
  }));
  return [
    ...programs,
    link('usr/bin/p2p-update', '../lib/p2p-update/dist/p2p-update.cjs'),
    ...(await setupTemplates()),
    ...(await documentation({ version, time })),
    file(`${docs}/copyright`, await copyrightText(sources)),
    file('usr/share/lintian/overrides/p2p-update', lintianOverrides),
    file('usr/share/man/man1/p2p-update.1.gz', gzip(manPage(help, { version, time }))),
    file('usr/share/bash-completion/completions/p2p-update', bashCompletion(help)),
    file('usr/share/zsh/vendor-completions/_p2p-update', zshCompletion(help)),
  ];
}

/** Tags of lintian that are as they are on purpose. */
const lintianOverrides = `# Read by the program, which set-up wants executable as the build makes it.
p2p-update: executable-not-elf-or-script
# A template, which set-up fills in.
p2p-update: script-not-executable
# The units are the node's, enabled by set-up: deb-systemd-helper would enable them before there is a node.
p2p-update: maintainer-script-calls-systemctl
# Of files that belonged to the user that purge removes.
p2p-update: recursive-privilege-change
`;

const file = (path, contents) => ({ path, mode: 0o644, contents });
const link = (path, target) => ({ path, target });

/** Set-up's templates where it looks for them, and the units of a node with the default paths. */
async function setupTemplates() {
  const names = (await readdir(templates)).filter((name) => !name.endsWith('.ts')).sort();
  const files = [];
  for (const name of names) {
    const text = await readFile(join(templates, name), 'utf8');
    files.push(file(`${code.slice(1)}/scripts/setup/${name}`, text));
    if (/^p2p-update-.*\.(path|service|timer)$/.test(name))
      files.push(file(`usr/lib/systemd/system/${name}`, filled(text)));
  }
  return files;
}

function filled(template) {
  return Object.entries(places).reduce(
    (text, [name, place]) => text.replaceAll(name, place),
    template,
  );
}

/** The guides, and samples of the configuration; hints and units name both below the code. */
async function documentation({ version, time }) {
  const names = await readdir(join(root, 'docs'), { recursive: true });
  const guides = names.filter((name) => /\.(md|json)$/.test(name)).sort();
  const examples = (await readdir(join(import.meta.dirname, 'examples'))).sort();
  const serf = (await readFile(join(root, 'serf.json'), 'utf8')).replaceAll(
    '/opt/p2p-update',
    code,
  );
  const read = (name) => readFile(join(root, 'docs', name));
  const lib = code.slice(1);
  return [
    ...(
      await Promise.all(
        guides.map(async (name) => [
          // A machine may leave out /usr/share/doc (path-exclude of dpkg); the file that set-up's hints use stays.
          ...(name.endsWith('.json')
            ? [
                file(`${lib}/docs/${name}`, await read(name)),
                link(`${docs}/${name}`, `../../../lib/p2p-update/docs/${name}`),
                link(`${docs}/examples/${name}`, `../../../../lib/p2p-update/docs/${name}`),
              ]
            : [file(`${docs}/${name}`, await read(name))]),
          ...(/^[^/]+\.md$/.test(name)
            ? [link(`${lib}/docs/${name}`, `../../../share/doc/p2p-update/${name}`)]
            : []),
        ]),
      )
    ).flat(),
    ...(await Promise.all(
      examples.map(async (name) =>
        file(
          `${docs}/examples/${name}`,
          await readFile(join(import.meta.dirname, 'examples', name)),
        ),
      ),
    )),
    file(`${docs}/examples/10-p2p-update.json`, serf),
    file(`${lib}/serf.json`, serf),
    file(`${docs}/CHANGELOG.md`, await readFile(join(root, 'CHANGELOG.md'))),
    file(`${docs}/changelog.gz`, gzip(changelog({ version, time }))),
  ];
}

/** An entry as dpkg-parsechangelog(1) reads it; CHANGELOG.md says more. */
function changelog({ version, time }) {
  const date = new Date(time * 1000).toUTCString().replace('GMT', '+0000');
  return `p2p-update (${debianVersion(version)}) unstable; urgency=medium

  * Version ${version}: see CHANGELOG.md.

 -- ${maintainer}  ${date}
`;
}

/** By gzip(1) as on any Debian: the compressor of Node differs from build to build of Node. */
function gzip(text) {
  return execFileSync('gzip', ['-9', '-n'], { input: text });
}
