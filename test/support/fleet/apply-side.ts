import { createHash } from 'node:crypto';
import { lstatSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Announcement } from '../../../lib/announcement/fields.ts';
import {
  contentLocation,
  parseAnnouncement,
  type Update,
} from '../../../lib/announcement/update.ts';
import { type Config, parseConfig } from '../../../lib/config.ts';
import { applyReady } from '../../../lib/reconciler/apply/apply.ts';
import { keepAccepted } from '../../../lib/state/facts.ts';
import { outcomesDir } from '../../../lib/state/layout.ts';
import { markComplete } from '../../../lib/state/markers.ts';
import { type Progress, readProgress } from '../../../lib/state/progress.ts';
import type { LoggedEvent } from '../../../lib/system/event-log.ts';
import {
  makeAnnouncement,
  makeKeys,
  signAnnouncement,
  type TestKeys,
  writeKeySet,
} from './announce.ts';

/** One node without daemons: its files as after a download, and the real apply side. */
export interface ApplySide {
  config: Config;
  keys: TestKeys;
  /** Signs, stores and marks as complete, as if Transmission had just downloaded it. */
  receive(change: Partial<Announcement>, content: Uint8Array): Update;
  /** Runs one pass of the real apply code, at `now` in unix seconds; returns the logged events. */
  apply(now?: number): Promise<Omit<LoggedEvent, 'handler'>[]>;
  outcomeOf(update: Update): Progress | undefined;
}

/** Makes an apply side below `directory`. Puppet is a stand-in that only records its calls. */
export function makeApplySide(
  directory: string,
  change: Partial<Config> = {},
  keys = makeKeys(),
): ApplySide {
  const at = (...parts: string[]): string => join(directory, ...parts);
  mkdirSync(at('etc'), { recursive: true });
  writeKeySet(at('etc', 'keyset.txt'), keys);
  writeFileSync(at('etc', 'puppet'), `#!/bin/sh\nprintf '%s\\n' "$@" >>"\${0%/*}/puppet-ran"\n`, {
    mode: 0o755,
  });
  const defaults = parseConfig('{}', 'the defaults');
  const config: Config = {
    ...defaults,
    stateDir: at('state'),
    applyDir: at('apply'),
    keySetFile: at('etc', 'keyset.txt'),
    downloadDir: at('downloads'),
    publishDir: at('publish'),
    deliveryDir: at('files'),
    puppet: {
      ...defaults.puppet,
      command: at('etc', 'puppet'),
      confDir: at('puppet', 'conf'),
      varDir: at('puppet', 'var'),
      moduleDir: at('puppet', 'modules'),
      modulePath: [],
    },
    ...change,
  };
  const { confDir, varDir, moduleDir } = config.puppet;
  const made = [config.stateDir, config.applyDir, config.downloadDir, config.publishDir];
  for (const path of [...made, confDir, varDir, moduleDir]) mkdirSync(path, { recursive: true });

  const now = (): number => Math.floor(Date.now() / 1000);
  let version = now();
  return {
    config,
    keys,
    receive(fields, content) {
      const sha256 = createHash('sha256').update(content).digest('hex');
      version += 1;
      const announcement = makeAnnouncement({
        version,
        sha256,
        infoHash: sha256.slice(0, 40),
        length: content.length,
        pieces: new Uint8Array(),
        ...fields,
      });
      const payload = signAnnouncement(announcement, keys);
      const { update } = parseAnnouncement(payload);
      keepAccepted(config.stateDir, update, { payload, acceptedAt: new Date().toISOString() });
      const { file } = contentLocation(update, config.downloadDir);
      mkdirSync(dirname(file), { recursive: true });
      // A file with these bytes in its name may be there already, or may have been put there by a test.
      if (lstatSync(file, { throwIfNoEntry: false }) === undefined) writeFileSync(file, content);
      markComplete(config.applyDir, update.infoHash);
      return update;
    },
    async apply(at = now()) {
      const events: Omit<LoggedEvent, 'handler'>[] = [];
      await applyReady(config, { nowSeconds: () => at, log: (event) => events.push(event) });
      return events;
    },
    outcomeOf: (update) => readProgress(outcomesDir(config.applyDir), update),
  };
}

/** The names in the staging directory: empty once nothing is under way. */
export function stagedIn({ config }: ApplySide): string[] {
  return readdirSync(join(config.applyDir, 'staging'));
}
