import { setTimeout as sleep } from 'node:timers/promises';
import { nameOf, parseAnnouncement } from '../announcement/update.ts';
import type { Config } from '../config.ts';
import type { SerfClient } from '../daemons/serf/client.ts';
import { UpdateError } from '../errors.ts';
import { askMembers } from '../query/ask-fleet.ts';
import { parseStatus } from '../query/update-status.ts';
import { acceptedAtMs, readAccepted } from '../state/facts.ts';
import { eventsSince, type LogMark, markEvents } from '../system/event-log.ts';
import type { PublishedUpdate } from './published.ts';

/** Verdict of this node's own handler on an event. */
export type OwnVerdict =
  /** It holds the announcement. */
  | { kind: 'taken' }
  /** It heard of it, and follows other channels. */
  | { kind: 'not followed' }
  | { kind: 'refused'; reason: string }
  /** Nothing shows that the event came; with the last refusal that names no update, if there was one. */
  | { kind: 'unheard'; refusal: string | undefined };

/** A handler takes a tenth of a second, and seconds on a small machine, or behind other events. */
const patienceMs = 20_000;
const pollMs = 50;
/** Time after which the node is asked by Serf as well: its state may be in another place than this configuration says. */
const askAfterMs = 3000;

/**
 * Watches this node's own handler from now on: that Serf has dispatched an event proves nothing. An agent whose event
 * clock was made to overflow does so, and nobody hears of it.
 */
export class OwnNode {
  readonly #published: PublishedUpdate;
  readonly #config: Config;
  readonly #serf: SerfClient;
  readonly #mark: LogMark;
  readonly #rungMs: number | undefined;

  constructor(published: PublishedUpdate, config: Config, serf: SerfClient) {
    this.#published = published;
    this.#config = config;
    this.#serf = serf;
    this.#mark = markEvents(config.stateDir);
    this.#rungMs = acceptedAtMs(config.stateDir, published);
  }

  /**
   * Waits until the handler has decided on the event, some seconds at most.
   *
   * @param isNew whether no node can have held the announcement before, so that holding it proves that it came
   */
  async verdict(isNew: boolean): Promise<OwnVerdict> {
    const begin = performance.now();
    let nextAskMs = isNew ? askAfterMs : Infinity;
    for (;;) {
      const seen = this.#look();
      const elapsedMs = performance.now() - begin;
      if (seen.kind !== 'unheard' || elapsedMs > patienceMs) return seen;
      if (elapsedMs > nextAskMs) {
        if (await this.#saysThatItHolds()) return { kind: 'taken' };
        nextAskMs += askAfterMs;
      }
      await sleep(pollMs);
    }
  }

  #look(): OwnVerdict {
    const { channel, version } = this.#published;
    const { stateDir } = this.#config;
    if (acceptedAtMs(stateDir, this.#published) !== this.#rungMs && this.#isHeld())
      return { kind: 'taken' };
    const lines = eventsSince(stateDir, this.#mark).filter(({ handler }) => handler === 'update');
    const own = lines.find((line) => line.channel === channel && line.version === version);
    if (own === undefined) {
      const nameless = lines.filter((line) => line.version === undefined);
      return { kind: 'unheard', refusal: nameless.at(-1)?.reason };
    }
    if (own.decision === 'accept' || own.decision === 'ring') return { kind: 'taken' };
    return this.#config.channels?.includes(channel) === false
      ? { kind: 'not followed' }
      : { kind: 'refused', reason: own.reason };
  }

  /** Whether the stored announcement is this one, and not another of the same version. */
  #isHeld(): boolean {
    const stored = readAccepted(this.#config.stateDir, this.#published);
    if (stored === undefined) return false;
    const [a, b] = [stored.payload, this.#published.payload].map((each) => parseAnnouncement(each));
    return a !== undefined && b !== undefined && Buffer.compare(a.body, b.body) === 0;
  }

  async #saysThatItHolds(): Promise<boolean> {
    try {
      const self = await this.#serf.selfName();
      const answers = await askMembers(this.#serf, nameOf(this.#published), [self]);
      const status = parseStatus(answers.get(self) ?? '');
      return status !== undefined && status.state !== 'UNKNOWN' && status.state !== 'DAMAGED';
    } catch (error) {
      if (error instanceof UpdateError) return false;
      throw error;
    }
  }
}
