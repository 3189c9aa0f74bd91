import { createHash, randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Config } from '../../lib/config.ts';
import { mustRun } from '../support/run/command.ts';

/** One update of the demo. */
export interface DemoUpdate {
  title: string;
  /** The file or directory to submit. */
  path: string;
  /** null: submit chooses. */
  channel: string | null;
  /** File that must be on a node once it is applied, with the check of its content. */
  proof: { file: (config: Config) => string; holds: (content: Buffer) => boolean };
}

/** The updates of the demo, in the order in which they are submitted. */
export interface DemoContents {
  first: DemoUpdate;
  newer: DemoUpdate;
  module: DemoUpdate;
  moduleUser: DemoUpdate;
  directory: DemoUpdate;
  file: DemoUpdate;
}

const fileBytes = 20 << 20;

/** Writes the contents of the demo's updates into a directory. */
export function writeContents(directory: string): DemoContents {
  const write = (path: string, content: string | Buffer): string => {
    const file = join(directory, path);
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, content);
    return file;
  };
  // Puppet's own variable directory: the nodes of the demo share one file system.
  const at = (name: string) => (config: Config) => join(config.puppet.varDir, name);
  const says = (text: string) => (content: Buffer) => content.includes(text);

  const motd = (text: string): string => `file { "\${settings::vardir}/motd":
  content => "${text}, version \${facts['p2p_update_version']}\\n",
}
`;
  const image = randomBytes(fileBytes);
  const imageHash = sha256(image);
  const moduleDir = join(directory, 'acme-greeting');
  write(
    'acme-greeting/metadata.json',
    JSON.stringify({
      name: 'acme-greeting',
      version: '1.0.0',
      author: 'acme',
      summary: 'Greets whoever logs in',
      license: 'Apache-2.0',
      source: 'https://example.org/acme-greeting',
      dependencies: [],
    }),
  );
  write(
    'acme-greeting/manifests/init.pp',
    `class greeting (String $text) {
  file { "\${settings::vardir}/greeting": content => "\${text}\\n" }
}
`,
  );
  const moduleFile = join(directory, 'acme-greeting-1.0.0.tar.gz');
  mustRun(['tar', '-czf', moduleFile, '-C', dirname(moduleDir), 'acme-greeting']);

  write('web-server/hiera.yaml', 'version: 5\nhierarchy:\n  - name: all\n    path: all.yaml\n');
  write('web-server/data/all.yaml', 'web::port: 8080\n');
  write('web-server/manifests/site.pp', 'include web\n');
  write(
    'web-server/modules/web/manifests/init.pp',
    `class web (Integer $port) {
  file { "\${settings::vardir}/web.conf": content => "listen \${port}\\n" }
}
`,
  );

  return {
    first: {
      title: 'a manifest',
      path: write('first/motd.pp', motd('first edition')),
      channel: null,
      proof: { file: at('motd'), holds: says('first edition') },
    },
    newer: {
      title: 'a newer manifest supersedes it',
      path: write('newer/motd.pp', motd('second edition')),
      channel: null,
      proof: { file: at('motd'), holds: says('second edition') },
    },
    module: {
      title: 'a Puppet module',
      path: moduleFile,
      channel: null,
      proof: {
        file: (config) => join(config.puppet.moduleDir, 'greeting', 'manifests', 'init.pp'),
        holds: says('class greeting'),
      },
    },
    moduleUser: {
      title: 'a manifest that uses the module',
      path: write('greet.pp', "class { 'greeting': text => 'made by the module' }\n"),
      channel: null,
      proof: { file: at('greeting'), holds: says('made by the module') },
    },
    directory: {
      title: 'a directory: manifests, modules and data',
      path: join(directory, 'web-server'),
      channel: 'web',
      proof: { file: at('web.conf'), holds: says('listen 8080') },
    },
    file: {
      title: 'a plain file of 20 MiB',
      path: write('disk.img', image),
      channel: 'images',
      proof: {
        file: (config) => join(config.deliveryDir, 'disk.img'),
        holds: (content) => sha256(content) === imageHash,
      },
    },
  };
}

/** Whether an update has really had its effect on a node. */
export function hasEffect(update: DemoUpdate, config: Config): boolean {
  try {
    return update.proof.holds(readFileSync(update.proof.file(config)));
  } catch {
    return false;
  }
}

function sha256(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}
