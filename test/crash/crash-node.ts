import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Announcement } from '../../lib/announcement/fields.ts';
import { buildMetainfo, computeInfoHash } from '../../lib/announcement/metainfo.ts';
import {
  contentLocation,
  parseAnnouncement,
  type Update,
  updateKey,
} from '../../lib/announcement/update.ts';
import type { Config } from '../../lib/config.ts';
import { keepAccepted } from '../../lib/state/facts.ts';
import {
  outcomesDir,
  prepareApplyDir,
  prepareStateDir,
  updatesDir,
} from '../../lib/state/layout.ts';
import { markComplete } from '../../lib/state/markers.ts';
import { newProgress, type Progress, writeProgress } from '../../lib/state/progress.ts';
import type { State } from '../../lib/state/states.ts';
import { makeAnnouncement, signAnnouncement } from '../support/fleet/announce.ts';
import { type ApplySide, makeApplySide } from '../support/fleet/apply-side.ts';
import { runSync } from '../support/run/command.ts';
import { programArgv } from '../support/run/program.ts';

const pieceLength = 16_384;

/**
 * Stands in for Puppet where volume counts: each real run appends one line, the version and the SHA-256
 * of its manifest, and exits with the status in `exit`. `module install` unpacks the archive as Puppet does.
 */
const puppetStandIn = `#!/bin/sh
here=\${0%/*}
for last; do :; done
case $1 in
module)
  for each; do case $each in --target-dir=*) target=\${each#*=};; esac; done
  mkdir "$target/hello" && tar -xzf "$last" -C "$target/hello" && echo "module $(sha256sum <"$target/hello/manifests/init.pp")" >>"$here/runs"
  ;;
*)
  if [ -d "$last" ]; then sum=$(cat "$last"/*.pp | sha256sum); else sum=$(sha256sum <"$last"); fi
  echo "$FACTER_p2p_update_version $sum" >>"$here/runs"
  exit "$(cat "$here/exit")"
esac
`;

/** One node's files, from which programs are run; everything is below `directory`. */
export interface CrashNode extends Pick<ApplySide, 'config' | 'keys'> {
  directory: string;
  configFile: string;
  /** SHA-256 of every content that may be applied. */
  announced: Set<string>;
  /** Files that are run or installed from an archive, by the archive's SHA-256. */
  inner: Map<string, string>;
  /** Effect that has to be found where an update was applied, by the update's name. */
  shows: Map<string, string>;
  /** Signs an announcement of this content, which this node does not know yet. */
  sign(change: Partial<Announcement>, content: string | Buffer): Update;
  /** Stores it, as the update handler does. */
  accept(update: Update): Update;
  /** Puts content where Transmission would. */
  download(update: Update, content: string | Buffer): void;
  mark(update: Update): void;
  /** Writes one side's record, in this state since `age` seconds. */
  record(
    side: 'advance' | 'apply',
    update: Update,
    state: State,
    more?: Partial<Progress>,
    age?: number,
  ): void;
  /** Runs a program of dist/ as it is, without an interruption; its exit status does not matter. */
  run(program: string): void;
}

/** Makes a node below `directory`, in the place of anything there. */
export function makeCrashNode(
  directory: string,
  dist: string,
  change: Partial<Config> = {},
): CrashNode {
  rmSync(directory, { recursive: true, force: true });
  const { config, keys } = makeApplySide(directory, {
    nodeName: 'n1',
    catchUpSeconds: 86_400,
    ...change,
  });
  const configFile = join(directory, 'etc', 'config.json');
  writeFileSync(configFile, JSON.stringify(config));
  writeFileSync(join(directory, 'etc', 'puppet'), puppetStandIn, { mode: 0o755 });
  writeFileSync(join(directory, 'etc', 'exit'), '2');
  const { stateDir, applyDir, downloadDir, puppet } = config;
  prepareStateDir(stateDir);
  prepareApplyDir(applyDir);
  writeFileSync(
    join(puppet.confDir, 'puppet.conf'),
    '[main]\nmanage_internal_file_permissions = false\n',
  );
  const announced = new Set<string>();
  const [inner, shows] = [new Map<string, string>(), new Map<string, string>()];
  let version = 1000;
  const now = (): number => Math.floor(Date.now() / 1000);
  return {
    ...{ config, keys, directory, configFile, announced, inner, shows },
    sign(fields, content) {
      const bytes = Buffer.from(content);
      const sha256 = createHash('sha256').update(bytes).digest('hex');
      version += 1;
      announced.add(sha256);
      const name = fields.name ?? 'site.pp';
      const pieces = piecesOf(bytes);
      const metainfo = { length: bytes.length, sha256, name, pieceLength, pieces };
      const announcement = makeAnnouncement({
        ...{ version, name, length: bytes.length, sha256, pieces, pieceLength },
        infoHash: computeInfoHash(metainfo),
        // A case may take more than an hour.
        expires: 2 ** 32 - 1,
        ...fields,
      });
      const { update } = parseAnnouncement(signAnnouncement(announcement, keys));
      const isContent = update.kind !== 'keyset' && update.kind !== 'withdraw';
      // Of two announcements of one version the first one is kept.
      if (isContent && !shows.has(updateKey(update)))
        shows.set(updateKey(update), inner.get(sha256) ?? sha256);
      return update;
    },
    accept(update) {
      const { payload } = update;
      keepAccepted(stateDir, update, { payload, acceptedAt: new Date().toISOString() });
      return update;
    },
    download(update, content) {
      const { file } = contentLocation(update, downloadDir);
      mkdirSync(dirname(file), { recursive: true });
      writeFileSync(file, content);
    },
    mark(update) {
      markComplete(applyDir, update.infoHash);
    },
    record(side, update, state, more = {}, age = 0) {
      const [directory, mode] =
        side === 'advance' ? [updatesDir(stateDir), 0o640] : [outcomesDir(applyDir), 0o644];
      mkdirSync(directory, { recursive: true });
      // From itself, so that any state can be written.
      const from = { ...newProgress(update), ...more, state };
      writeProgress(directory, update, from, { state, reason: 'prepared' }, now() - age, mode);
    },
    run(program) {
      runSync(programArgv(program, dist), {
        env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', P2P_UPDATE_CONFIG: configFile },
      });
    },
  };
}

/** BEP 3. */
function piecesOf(bytes: Buffer): Uint8Array {
  const count = Math.ceil(bytes.length / pieceLength);
  const digests = Array.from({ length: count }, (_, index) =>
    createHash('sha1')
      .update(bytes.subarray(index * pieceLength, (index + 1) * pieceLength))
      .digest(),
  );
  return Buffer.concat(digests);
}

/** The .torrent of an update, as advance makes it. */
export function torrentOf(update: Update): Buffer {
  return buildMetainfo({ ...update, sha256: update.sha256 ?? '' });
}

/** Every file and directory below one, as absolute paths. */
export function walk(directory: string): string[] {
  return (readdirSync(directory, { recursive: true }) as string[]).map((path) =>
    join(directory, path),
  );
}
