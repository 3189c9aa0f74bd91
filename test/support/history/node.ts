import { createHash } from 'node:crypto';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { computeInfoHash, contentFileName } from '../../../lib/announcement/metainfo.ts';
import {
  parseAnnouncement,
  parseUpdateKey,
  type UpdateId,
} from '../../../lib/announcement/update.ts';
import type { Config } from '../../../lib/config.ts';
import { UpdateError } from '../../../lib/errors.ts';
import { chooseServed, itemOf } from '../../../lib/query/holdings.ts';
import { advance } from '../../../lib/reconciler/advance/advance.ts';
import { applyReady } from '../../../lib/reconciler/apply/apply.ts';
import { acceptPayload } from '../../../lib/state/accept.ts';
import { HeldUpdates } from '../../../lib/state/held.ts';
import { markFor } from '../../../lib/state/high-water-mark.ts';
import { currentKeySet } from '../../../lib/state/key-chain.ts';
import { outcomesDir } from '../../../lib/state/layout.ts';
import { markComplete } from '../../../lib/state/markers.ts';
import { readProgress } from '../../../lib/state/progress.ts';
import type { State } from '../../../lib/state/states.ts';
import { publicKeyOf } from '../../../lib/trust/ed25519.ts';
import { formatKeySet } from '../../../lib/trust/key-set.ts';
import { makeAnnouncement, makeKeys, signAnnouncement, type TestKeys } from '../fleet/announce.ts';
import { makeApplySide } from '../fleet/apply-side.ts';
import {
  MemoryTransmission,
  noAnnounces,
  type SwarmContent,
} from '../fleet/memory-transmission.ts';
import { type Announced, type History, startedAt } from './history.ts';

/** One real run that was seen from outside: a file put in its place, or a call of Puppet. */
export interface SeenRun {
  channel: string;
  noop: boolean;
  /** The update for which Puppet was called. */
  version?: number;
  /** Of the file. */
  content?: string;
}

const first = makeKeys('history-fleet');
const second: TestKeys = { ...makeKeys('history-fleet'), rootKeys: first.rootKeys };
second.keySet = {
  ...first.keySet,
  epoch: 2,
  releaseKeys: second.releaseKeys.map((key) => ({ key: publicKeyOf(key), channels: null })),
};
const keysOf = (epoch: number): TestKeys => (epoch === 1 ? first : second);

/** The key set as the model has it. */
export const secondKeySet: Announced = {
  ...{ channel: 'keyset', version: 2, kind: 'keyset', target: '', isForUs: true, noop: false },
  ...{ rerun: false, content: formatKeySet(second.keySet), epoch: 1, expires: 2 ** 32 - 1 },
};

class Killed extends Error {}

/** The code of a real node, without daemons: every step starts with nothing but the files. */
export class HistoryNode {
  readonly config: Config;
  readonly transmission: MemoryTransmission;
  readonly #payloads: Map<Announced, string>;
  #now = startedAt;
  #seenFiles = new Map<string, string>();
  #seenLines = 0;

  constructor(directory: string, { announced, hasSecondKeySet }: History) {
    const { config } = makeApplySide(
      directory,
      { nodeName: 'n1', tags: { role: 'web' }, deliveryDir: join(directory, 'files') },
      first,
    );
    this.config = config;
    const swarm = new Map<string, SwarmContent>();
    this.transmission = new MemoryTransmission(swarm, config.downloadDir);
    const all = hasSecondKeySet ? [...announced, secondKeySet] : announced;
    this.#payloads = new Map(all.map((each) => [each, sign(each, swarm)]));
    // Earlier files are no runs of this history.
    this.seeRuns();
  }

  get now(): number {
    return this.#now;
  }

  payloadOf(announced: Announced): string {
    return this.#payloads.get(announced) ?? '';
  }

  wait(seconds: number): void {
    this.#now += seconds;
  }

  /** Decision of a real node on an event, in the model's words. */
  async deliver(announced: Announced, isClockWrong = false): Promise<string> {
    const payload = this.payloadOf(announced);
    try {
      const clock = { nowSeconds: this.#now, buildTime: isClockWrong ? this.#now + 1 : 0 };
      return (await acceptPayload(Buffer.from(payload), this.config, clock)).decision.kind;
    } catch (error) {
      if (error instanceof UpdateError && error.code === 'untrusted') return 'untrusted';
      if (error instanceof UpdateError && error.code === 'try-later') return 'later';
      throw error;
    }
  }

  /** The announcements that neighbours with every event serve. */
  async served(): Promise<Announced[]> {
    const all = [...this.#payloads];
    const holdings = await Promise.all(all.map(([, payload]) => itemOf(payload)));
    const served = new Set(chooseServed(holdings, this.#now).map(({ payload }) => payload));
    return all.flatMap(([each, payload]) => (served.has(payload) ? [each] : []));
  }

  async advance(callsLeft = Infinity): Promise<void> {
    const deps = {
      transmission: this.transmission.connect(callsLeft),
      ...noAnnounces(),
      nowSeconds: () => this.#now,
      buildTime: 0,
      log: refuseIllegalSteps,
      warn: () => undefined,
      hooks: [],
    };
    try {
      await Promise.all(await advance(this.config, deps));
    } catch (error) {
      if (!(error instanceof UpdateError && error.code === 'unavailable')) throw error;
    }
  }

  download(isHookLost: boolean): void {
    for (const infoHash of this.transmission.download())
      if (!isHookLost) markComplete(this.config.applyDir, infoHash);
  }

  /** Runs a pass of the apply side, killed when it reads the clock or logs once too often. */
  async apply(stepsLeft = Infinity): Promise<SeenRun[]> {
    let left = stepsLeft;
    const step = (): void => {
      left -= 1;
      if (left < 0) throw new Killed();
    };
    try {
      await applyReady(this.config, {
        nowSeconds: () => {
          step();
          return this.#now;
        },
        log: (event) => {
          step();
          refuseIllegalSteps(event);
        },
      });
    } catch (error) {
      if (!(error instanceof Killed)) throw error;
    }
    return this.seeRuns();
  }

  /** Runs since the last call, also of a pass that failed. */
  seeRuns(): SeenRun[] {
    return [...this.#seeFiles(), ...this.#seePuppet()];
  }

  get epoch(): number {
    return currentKeySet(this.config).epoch;
  }

  mark(announced: Announced): number {
    const { update } = parseAnnouncement(this.payloadOf(announced));
    // Of an update that was not offered yet.
    const offered = { ...update, version: Number.MAX_SAFE_INTEGER };
    return markFor(new HeldUpdates(this.config), offered, { nowSeconds: this.#now, buildTime: 0 });
  }

  stateOf(id: UpdateId): State | undefined {
    return readProgress(outcomesDir(this.config.applyDir), id)?.state;
  }

  /** Each delivery makes a new file, which the time of its last change tells apart. */
  #seeFiles(): SeenRun[] {
    return ['a', 'b', 'c'].flatMap((channel) => {
      const file = join(this.config.deliveryDir, `${channel}.txt`);
      const stats = statSync(file, { bigint: true, throwIfNoEntry: false });
      if (stats === undefined) return [];
      const identity = `${stats.ino} ${stats.ctimeNs}`;
      if (this.#seenFiles.get(channel) === identity) return [];
      this.#seenFiles.set(channel, identity);
      return [{ channel, noop: false, content: readFileSync(file, 'latin1') }];
    });
  }

  /** The stand-in for Puppet writes down its arguments; the manifest's directory names the update. */
  #seePuppet(): SeenRun[] {
    const file = join(this.config.puppet.command, '..', 'puppet-ran');
    const lines = existsSync(file) ? readFileSync(file, 'latin1').split('\n') : [];
    const fresh = lines.slice(this.#seenLines);
    this.#seenLines = Math.max(0, lines.length - 1);
    let noop = false;
    return fresh.flatMap((line) => {
      if (line === '--noop' || line === '--no-noop') noop = line === '--noop';
      const key = /\/staging\/([^/]+)\/content\/site\.pp$/.exec(line)?.[1];
      const id = key === undefined ? undefined : parseUpdateKey(key);
      return id === undefined ? [] : [{ ...id, noop }];
    });
  }
}

function refuseIllegalSteps({ reason }: { reason: string }): void {
  if (reason.includes('illegal step')) throw new Error(reason);
}

const signed = new Map<string, { payload: string; infoHash: string; swarmed?: SwarmContent }>();

/** Signs an announcement as the fleet would, and puts its content into the swarm. */
function sign(announced: Announced, swarm: Map<string, SwarmContent>): string {
  const key = JSON.stringify(announced);
  const known = signed.get(key) ?? signAnew(announced);
  signed.set(key, known);
  if (known.swarmed !== undefined) swarm.set(known.infoHash, known.swarmed);
  return known.payload;
}

function signAnew(a: Announced): { payload: string; infoHash: string; swarmed?: SwarmContent } {
  const { channel, version, kind, target, noop, rerun, expires, epoch } = a;
  const name = {
    file: `${channel}.txt`,
    manifest: 'site.pp',
    keyset: 'keyset-2.txt',
    withdraw: 'w',
  };
  const common = { channel, version, kind, target, noop, rerun, expires, epoch };
  const fields = { ...common, created: startedAt - 10, notBefore: 0, name: name[kind] };
  if (kind === 'withdraw') {
    const none = { infoHash: '0'.repeat(40), sha256: '0'.repeat(64), length: 0, pieceLength: 0 };
    const withdrawal = makeAnnouncement({ ...fields, ...none, pieces: new Uint8Array() });
    return { payload: signAnnouncement(withdrawal, keysOf(epoch)), infoHash: none.infoHash };
  }
  const bytes = Buffer.from(kind === 'manifest' ? `# ${a.content}\n` : a.content);
  const content = {
    sha256: createHash('sha256').update(bytes).digest('hex'),
    length: bytes.length,
    pieceLength: 16_384,
    pieces: createHash('sha1').update(bytes).digest(),
    name: fields.name,
  };
  const infoHash = computeInfoHash(content);
  // Its pieces travel as metadata.
  const told = makeAnnouncement({ ...fields, ...content, infoHash, pieces: new Uint8Array() });
  return {
    payload: signAnnouncement(told, keysOf(epoch)),
    infoHash,
    swarmed: { name: contentFileName(content), pieceLength: content.pieceLength, bytes },
  };
}
