import { hash } from 'node:crypto';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { TransmissionClient } from '../../../lib/daemons/transmission/client.ts';
import { requiredSettings } from '../../../lib/daemons/transmission/settings.ts';
import type { Torrent } from '../../../lib/daemons/transmission/torrent.ts';
import { UpdateError } from '../../../lib/errors.ts';
import type { AdvanceDeps } from '../../../lib/reconciler/advance/take-step.ts';

/** Deps of advance for a daemon of this kind, whose torrents need no peers. */
export function noAnnounces(): Pick<
  AdvanceDeps,
  'openAnnouncer' | 'announcePeers' | 'unannounced'
> {
  const none = (): Promise<undefined> => Promise.resolve(undefined);
  return { openAnnouncer: none, announcePeers: none, unannounced: new Set() };
}

/** The content of a torrent that some peer of the swarm has. */
export interface SwarmContent {
  /** As the torrent names it. */
  name: string;
  pieceLength: number;
  bytes: Buffer;
}

/**
 * A daemon without a process: it holds torrents, and has one in full once {@link download} is called.
 * Its memory and its files are its own, so that they outlive every kill of ours.
 */
export class MemoryTransmission {
  readonly #swarm: ReadonlyMap<string, SwarmContent>;
  readonly #downloadDir: string;
  readonly #torrents = new Map<string, { isComplete: boolean }>();

  constructor(swarm: ReadonlyMap<string, SwarmContent>, downloadDir: string) {
    this.#swarm = swarm;
    this.#downloadDir = downloadDir;
  }

  /** Completes everything that it holds; returns the info hashes of what it completed. */
  download(): string[] {
    const open = [...this.#torrents].filter(([, { isComplete }]) => !isComplete);
    return open.map(([infoHash, torrent]) => {
      const { name, bytes } = this.#contentOf(infoHash);
      const file = join(this.#downloadDir, name);
      mkdirSync(dirname(file), { recursive: true });
      writeFileSync(file, bytes);
      torrent.isComplete = true;
      return infoHash;
    });
  }

  /** @param callsLeft it answers so many calls, and is down then. */
  connect(callsLeft = Infinity): TransmissionClient {
    let left = callsLeft;
    const answer = <T>(work: () => T): Promise<T> => {
      left -= 1;
      if (left >= 0) return Promise.resolve(work());
      return Promise.reject(
        new UpdateError('unavailable', 'Transmission is down', { hint: 'start it' }),
      );
    };
    const nothing = (): Promise<void> => answer(() => undefined);
    const list = (): Torrent[] => [...this.#torrents.keys()].map((each) => this.#describe(each));
    return {
      add: (torrent) =>
        answer(() => {
          const infoHash =
            'magnet' in torrent
              ? (/urn:btih:([0-9a-f]{40})/.exec(torrent.magnet)?.[1] ?? '')
              : hash('sha1', torrent.metainfo.subarray('d4:info'.length, -1));
          if (this.#torrents.has(infoHash)) return 'duplicate';
          this.#torrents.set(infoHash, { isComplete: false });
          return 'added';
        }),
      list: () => answer(list),
      get: (infoHash) => answer(() => list().find((each) => each.infoHash === infoHash)),
      remove: (infoHash, { deleteData }) =>
        answer(() => {
          this.#torrents.delete(infoHash);
          if (!deleteData) return;
          rmSync(join(this.#downloadDir, this.#contentOf(infoHash).name), { force: true });
        }),
      start: nothing,
      peersOf: () => Promise.resolve([]),
      stop: nothing,
      verify: nothing,
      setSession: nothing,
      session: () => answer(() => ({ ...requiredSettings })),
      freeSpace: () => answer(() => 2 ** 40),
      secondsActive: () => answer(() => 3600),
    };
  }

  #contentOf(infoHash: string): SwarmContent {
    const content = this.#swarm.get(infoHash);
    if (content === undefined) throw new TypeError(`nobody has ${infoHash}`);
    return content;
  }

  #describe(infoHash: string): Torrent {
    const { name, pieceLength, bytes } = this.#contentOf(infoHash);
    const isComplete = this.#torrents.get(infoHash)?.isComplete === true;
    return {
      ...{ infoHash, name, pieceLength, totalSize: bytes.length, downloadDir: this.#downloadDir },
      status: isComplete ? 'seeding' : 'downloading',
      percentDone: isComplete ? 1 : 0,
      hasMetadata: true,
      files: [{ name, length: bytes.length }],
      error: '',
      ...{ peersConnected: 1, rateDownload: 1, rateUpload: 0, activeAt: 0, addedAt: 0 },
      ...{ uploadedEver: 0, trackers: [] },
    };
  }
}
