import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Announcement } from '../../../lib/announcement/fields.ts';
import {
  contentLocation,
  parseAnnouncement,
  type Update,
} from '../../../lib/announcement/update.ts';
import type { Config } from '../../../lib/config.ts';
import { keepAccepted } from '../../../lib/state/facts.ts';
import { markComplete } from '../../../lib/state/markers.ts';
import { listDirectory } from '../../../lib/system/directory.ts';
import { eventLogFile, type LoggedEvent } from '../../../lib/system/event-log.ts';
import { repository } from '../run/repository.ts';
import { readState } from '../run/state.ts';
import { temporaryDirectory } from '../run/temporary.ts';
import { makeAnnouncement, makeKeys, signAnnouncement, type TestKeys } from './announce.ts';
import { type ApplySide, makeApplySide } from './apply-side.ts';
import { serfEnvironment } from './serf-environment.ts';
import { runSync } from '../run/command.ts';

const handler = join(repository, 'dist/handlers/update.cjs');

/** Effect of a payload that an attacker or a test has sent. */
export interface Answer {
  status: number | null;
  stderr: string;
  /** The handler's line in events.log. */
  event: LoggedEvent;
  /** Whether the state is byte for byte what it was. */
  changed: boolean;
}

/** One node without daemons: the real update handler, run as Serf runs it, and the real apply code. */
export interface LoneNode extends ApplySide {
  directory: string;
  configFile: string;
  /** Gives a payload to the handler; `env` is added to Serf's. */
  send(payload: string | Buffer, env?: Record<string, string>): Answer;
  /** Signs by the node's own keys, and sends. */
  announce(change?: Partial<Announcement>, keys?: TestKeys): Answer;
  /** Writes a payload into the store, as an attacker who has taken over its owner would. */
  plant(payload: string): void;
  /** Removes every announcement from the store, as the same attacker would. */
  forget(): void;
  /** The files in the delivery directory. */
  delivered(): string[];
  /** Puts content where Transmission would have it, and marks it as complete. */
  download(payload: string, content: Uint8Array): Update;
}

/** Makes one in a temporary directory of the test. */
export function makeLoneNode(change: Partial<Config> = {}, keys = makeKeys()): LoneNode {
  const directory = temporaryDirectory();
  const side = makeApplySide(directory, { nodeName: 'n1', ...change }, keys);
  const { stateDir, applyDir, downloadDir } = side.config;
  const configFile = join(directory, 'etc', 'config.json');
  writeFileSync(configFile, JSON.stringify(side.config));
  const look = (): string => JSON.stringify([readState(stateDir), readState(applyDir)]);
  const send: LoneNode['send'] = (payload, env = {}) => {
    const before = look();
    const { status, stderr } = runSync([handler], {
      env: { ...serfEnvironment(configFile), ...env },
      input: Buffer.concat([Buffer.from(payload), Buffer.from('\n')]),
    });
    const event = lastEvent(stateDir);
    return { status, stderr, event, changed: look() !== before };
  };
  return {
    ...side,
    directory,
    configFile,
    send,
    announce: (fields = {}, signers = keys) =>
      send(signAnnouncement(makeAnnouncement(fields), signers)),
    plant(payload) {
      const { update } = parseAnnouncement(payload);
      keepAccepted(stateDir, update, { payload, acceptedAt: new Date().toISOString() });
    },
    forget() {
      rmSync(join(stateDir, 'announcements'), { recursive: true });
    },
    delivered: () => listDirectory(side.config.deliveryDir),
    download(payload, content) {
      const { update } = parseAnnouncement(payload);
      writeFileSync(contentLocation(update, downloadDir).file, content);
      markComplete(applyDir, update.infoHash);
      return update;
    },
  };
}

function lastEvent(stateDir: string): LoggedEvent {
  const file = eventLogFile(stateDir);
  const none = { handler: '', decision: '', reason: '' };
  if (!existsSync(file)) return none;
  const line = readFileSync(file, 'utf8').trimEnd().split('\n').at(-1);
  return line === undefined ? none : (JSON.parse(line) as LoggedEvent);
}
