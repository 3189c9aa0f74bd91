import { createHash } from 'node:crypto';
import { mkdirSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import type { Announcement } from '../../lib/announcement/fields.ts';
import type { Update } from '../../lib/announcement/update.ts';
import { stagingOf } from '../../lib/reconciler/apply/staging.ts';
import type { State } from '../../lib/state/states.ts';
import { replaceRecord } from '../../lib/system/record.ts';
import { formatKeySet } from '../../lib/trust/key-set.ts';
import { tarOf } from '../support/run/archives.ts';
import type { CrashCase, Prepared } from './cases.ts';
import type { CrashNode } from './crash-node.ts';

const file = { kind: 'file', name: 'message' } as const;

/** Makes the state after a download: an announcement, content and a marker. */
function received(
  node: CrashNode,
  fields: Partial<Announcement>,
  content: string | Buffer,
  downloaded = content,
): Update {
  const update = node.accept(node.sign(fields, content));
  node.download(update, downloaded);
  node.mark(update);
  return update;
}

const ends = (update: Update, ...states: State[]) =>
  ({ id: update, side: 'apply', states }) as const;

function applies(...expected: Prepared['expected']): Prepared {
  return { program: 'p2p-update.cjs apply', expected, reconcile: 'p2p-update.cjs apply' };
}

/** Puts the verified copy where it is after STAGED. */
function staged(node: CrashNode, update: Update, content: string, state: State = 'STAGED'): void {
  const { directory, copy } = stagingOf(node.config.applyDir, update);
  mkdirSync(join(directory, 'content'), { recursive: true, mode: 0o700 });
  writeFileSync(copy, content, { mode: 0o600 });
  node.record('apply', update, state);
}

const sha256 = (text: string | Buffer): string => createHash('sha256').update(text).digest('hex');

/** A module of these classes, whose installed files are announced with it. */
function moduleOf(node: CrashNode, text: string): Buffer {
  const [name, init] = ['acme-hello', `class hello { notice('${text}') }\n`];
  const more = { author: 'acme', license: 'Apache-2.0', summary: '', source: '', dependencies: [] };
  node.announced.add(sha256(init));
  const tar = tarOf([
    { name: 'acme-hello-1.0.0/', type: 'Directory', mode: 0o755 },
    {
      name: 'acme-hello-1.0.0/metadata.json',
      content: JSON.stringify({ name, version: '1.0.0', ...more }),
    },
    { name: 'acme-hello-1.0.0/manifests/', type: 'Directory', mode: 0o755 },
    { name: 'acme-hello-1.0.0/manifests/init.pp', content: init },
  ]);
  const archive = gzipSync(tar);
  node.inner.set(sha256(archive), sha256(init));
  return archive;
}

const module = { kind: 'module', name: 'acme-hello-1.0.0.tar.gz', channel: 'acme-hello' } as const;

/** Every stage of the apply side. */
export const applyCases: CrashCase[] = [
  {
    name: 'apply: first of a new node',
    prepare(node) {
      const prepared = applies(ends(received(node, file, 'first'), 'APPLIED'));
      for (const name of ['outcomes', 'keysets', 'modules', 'staging', 'runs'])
        rmdirSync(join(node.config.applyDir, name));
      return prepared;
    },
  },
  {
    name: 'apply: a file',
    prepare: (node) => applies(ends(received(node, file, 'first'), 'APPLIED')),
  },
  {
    name: 'apply: a file in the place of another',
    prepare(node) {
      received(node, file, 'first');
      node.run('p2p-update.cjs apply');
      return applies(ends(received(node, file, 'second'), 'APPLIED'));
    },
  },
  {
    name: 'apply: a manifest',
    prepare: (node) => applies(ends(received(node, {}, "notice('one')"), 'APPLIED')),
  },
  {
    name: 'apply: a manifest by the real Puppet',
    maxPoints: 12,
    prepare(node) {
      const own = 'echo "$FACTER_p2p_update_version $(sha256sum <"$last")" >>"${0%/*}/runs"';
      const script = `#!/bin/sh\nfor last; do :; done\n${own}\nexec puppet "$@"\n`;
      writeFileSync(join(node.directory, 'etc', 'puppet'), script, { mode: 0o755 });
      const made = join(node.directory, 'made-by-puppet');
      const manifest = `file { '${made}': content => 'converged' }`;
      return applies(ends(received(node, {}, manifest), 'APPLIED'));
    },
  },
  {
    name: 'apply: a module',
    prepare: (node) => applies(ends(received(node, module, moduleOf(node, 'one')), 'APPLIED')),
  },
  {
    name: 'apply: a module in the place of another',
    prepare(node) {
      received(node, module, moduleOf(node, 'one'));
      node.run('p2p-update.cjs apply');
      return applies(ends(received(node, module, moduleOf(node, 'two')), 'APPLIED'));
    },
  },
  {
    name: 'apply: an environment',
    prepare(node) {
      const manifest = "notice('environment')\n";
      node.announced.add(sha256(manifest));
      const tar = tarOf([
        { name: 'manifests/', type: 'Directory', mode: 0o755 },
        { name: 'manifests/site.pp', content: manifest },
      ]);
      const fields = { kind: 'environment', name: 'production.tar.gz' } as const;
      const archive = gzipSync(tar);
      node.inner.set(sha256(archive), sha256(manifest));
      return applies(ends(received(node, fields, archive), 'APPLIED'));
    },
  },
  {
    name: 'apply: a key set',
    prepare(node) {
      const next = { ...node.keys.keySet, epoch: 2 };
      const fields = {
        kind: 'keyset',
        channel: 'keyset',
        name: 'keyset-2.txt',
        version: 2,
      } as const;
      const update = received(node, fields, formatKeySet(next));
      return applies(ends(update, 'APPLIED'));
    },
  },
  {
    name: 'apply: a module, then the manifest that needs it',
    prepare(node) {
      const manifest = received(node, {}, 'include hello');
      writeFileSync(join(node.directory, 'etc', 'exit'), '0');
      node.record('apply', manifest, 'FAILED', { tries: 1, nextTryAt: 2 ** 31 });
      staged(node, manifest, 'include hello', 'FAILED');
      node.record('apply', manifest, 'FAILED', { tries: 1, nextTryAt: 2 ** 31 });
      const other = received(node, module, moduleOf(node, 'one'));
      return applies(ends(other, 'APPLIED'), ends(manifest, 'APPLIED'));
    },
  },
  {
    name: 'apply: a manifest that fails',
    prepare(node) {
      writeFileSync(join(node.directory, 'etc', 'exit'), '4');
      return applies(ends(received(node, {}, 'fail()'), 'FAILED'));
    },
  },
  {
    name: 'apply: the last try',
    prepare(node) {
      const update = received(node, {}, 'fail()');
      writeFileSync(join(node.directory, 'etc', 'exit'), '4');
      staged(node, update, 'fail()', 'FAILED');
      node.record('apply', update, 'FAILED', { tries: 2, nextTryAt: 1 });
      return applies(ends(update, 'POISONED'));
    },
  },
  {
    name: 'apply: taken up where a killed one was',
    prepare(node) {
      const update = received(node, {}, "notice('again')");
      staged(node, update, "notice('again')", 'APPLYING');
      const run = { processGroup: 4_000_000, startTime: '1' };
      replaceRecord(join(node.config.applyDir, 'run'), run, 0o600);
      return applies(ends(update, 'APPLIED'));
    },
  },
  {
    name: 'apply: the same content again',
    prepare(node) {
      received(node, file, 'the same');
      node.run('p2p-update.cjs apply');
      return applies(ends(received(node, file, 'the same'), 'APPLIED'));
    },
  },
  {
    name: 'apply: expired when it was downloaded',
    prepare(node) {
      const past = { created: 1_700_000_000, expires: 1_700_000_001 };
      return applies(ends(received(node, { ...file, ...past }, 'too late'), 'EXPIRED'));
    },
  },
  {
    name: 'apply: expired when it was staged',
    prepare(node) {
      const past = { created: 1_700_000_000, expires: 1_700_000_001 };
      const update = node.accept(node.sign({ ...file, ...past }, 'too late'));
      staged(node, update, 'too late');
      return applies(ends(update, 'EXPIRED'));
    },
  },
  {
    name: 'apply: superseded',
    prepare(node) {
      const old = node.accept(node.sign(file, 'old'));
      staged(node, old, 'old');
      return applies(ends(old, 'SUPERSEDED'), ends(received(node, file, 'new'), 'APPLIED'));
    },
  },
  {
    name: 'apply: withdrawn',
    prepare(node) {
      const old = node.accept(node.sign(file, 'unwanted'));
      staged(node, old, 'unwanted');
      return applies(ends(old, 'WITHDRAWN'), ends(withdrawal(node), 'APPLIED'));
    },
  },
  {
    name: 'apply: bad content',
    prepare(node) {
      return applies(ends(received(node, file, 'genuine', 'garbage'), 'QUEUED'));
    },
  },
  {
    name: 'apply: bad content for the third time',
    prepare(node) {
      const update = received(node, {}, 'genuine', 'garbage');
      node.record('apply', update, 'QUEUED', { badContent: 2 });
      return applies(ends(update, 'REJECTED'));
    },
  },
  {
    name: 'apply: two channels at once',
    prepare(node) {
      const one = received(node, { ...file, channel: 'one', name: 'one' }, 'one');
      const bad = received(node, { ...file, channel: 'two', name: 'two' }, 'two', 'TWO');
      return applies(ends(one, 'APPLIED'), ends(bad, 'QUEUED'));
    },
  },
];

/** A withdrawal of the current update of the default channel. */
export function withdrawal(node: CrashNode): Update {
  const none = { infoHash: '0'.repeat(40), sha256: '0'.repeat(64), length: 0 };
  const fields = { kind: 'withdraw', name: 'withdraw', ...none, pieceLength: 0 } as const;
  return node.accept(node.sign({ ...fields, pieces: new Uint8Array() }, ''));
}
