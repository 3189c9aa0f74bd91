import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { tarOf } from '../run/archives.ts';

/**
 * Writes the tarball of module acme-hello 1.0.0, always the same version: its class `hello` puts
 * `text` into the file `hello` below Puppet's confdir.
 */
export function moduleTarball(directory: string, text: string): string {
  const metadata = {
    name: 'acme-hello',
    version: '1.0.0',
    author: 'acme',
    license: 'Apache-2.0',
    summary: 'says hello',
    source: '',
    dependencies: [],
  };
  const init = `class hello { file { "\${settings::confdir}/hello": content => '${text}' } }\n`;
  const top = 'acme-hello-1.0.0';
  const tar = tarOf([
    { name: `${top}/`, type: 'Directory', mode: 0o755 },
    { name: `${top}/metadata.json`, content: JSON.stringify(metadata) },
    { name: `${top}/manifests/`, type: 'Directory', mode: 0o755 },
    { name: `${top}/manifests/init.pp`, content: init },
  ]);
  const file = join(directory, 'acme-hello-1.0.0.tar.gz');
  writeFileSync(file, gzipSync(tar));
  return file;
}
