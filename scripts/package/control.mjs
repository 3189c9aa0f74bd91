/** The control files of the package: what dpkg reads, and the maintainer scripts. */
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';

export const maintainer = 'p2p-update developers <p2p-update@p2p-update.invalid>';

/** A version of package.json for dpkg, which sorts 1.0.0~rc.1 before 1.0.0. */
export function debianVersion(version) {
  return version.replace('-', '~');
}

/** The files below DEBIAN/. */
export async function controlFiles({ version, files }) {
  const scripts = join(import.meta.dirname, 'debian');
  // Shared with `p2p-update setup --remove`.
  const shared = (name) => readFile(join(import.meta.dirname, '..', 'setup', name), 'utf8');
  const [stop, forget] = await Promise.all([shared('stop.sh'), shared('forget.sh')]);
  const control = [
    'Package: p2p-update',
    `Version: ${debianVersion(version)}`,
    'Architecture: all',
    `Maintainer: ${maintainer}`,
    'Section: admin',
    'Priority: optional',
    `Installed-Size: ${installedKiB(files)}`,
    // passwd has the tools that make the user.
    'Depends: nodejs (>= 18), serf, transmission-daemon, puppet-agent | puppet | openvox-agent, passwd',
    'Description: spread updates over a fleet of machines without a server',
    ' Serf gossips the word, Transmission moves the bytes, Puppet applies them. Each',
    ' node verifies the signature of an update before it downloads anything, and',
    ' again, as root, before it applies it. The command "p2p-update setup" makes a',
    ' machine a node.',
    '',
  ].join('\n');
  const sums = files
    .filter(({ contents }) => contents !== undefined)
    .map(({ path, contents }) => `${createHash('md5').update(contents).digest('hex')}  ${path}\n`)
    .sort((a, b) => (a.slice(34) < b.slice(34) ? -1 : 1))
    .join('');
  const hooks = await Promise.all(
    ['preinst', 'prerm', 'postinst', 'postrm'].map(async (name) => ({
      path: `DEBIAN/${name}`,
      mode: 0o755,
      contents: [
        `#!/bin/sh\n# Generated: scripts/package/debian has the sources.\nset -e\n`,
        stop,
        ...(name === 'postrm' ? [forget] : []),
        await readFile(join(scripts, name), 'utf8'),
      ].join('\n'),
    })),
  );
  return [
    { path: 'DEBIAN/control', mode: 0o644, contents: control },
    { path: 'DEBIAN/md5sums', mode: 0o644, contents: sums },
    ...hooks,
  ];
}

/** As dpkg-gencontrol counts: each file in whole KiB, each link and directory one. */
function installedKiB(files) {
  const directories = new Set();
  let size = 0;
  for (const { path, contents } of files) {
    size += contents === undefined ? 1 : Math.ceil(Buffer.byteLength(contents) / 1024);
    for (let at = path.lastIndexOf('/'); at > 0; at = path.lastIndexOf('/', at - 1))
      directories.add(path.slice(0, at));
  }
  return size + directories.size;
}
