import type { Announced } from '../support/history/history.ts';

/** One node as a model: announcements in, runs out; no files, no downloads. */
export class ReferenceModel {
  epoch = 1;
  readonly #held = new Set<Announced>();
  readonly #ran = new Set<Announced>();
  readonly #lastContent = new Map<string, string>();
  readonly #waiting = new Map<string, Announced>();

  /** Versions up to it are past; noops and other targets have marks of their own. */
  mark({ channel, target, noop, isForUs }: Announced): number {
    const counts = [...this.#held].filter((held) => {
      if (held.channel !== channel) return false;
      if (!isForUs) return !held.isForUs && held.target === target && held.noop === noop;
      return held.isForUs && (!held.noop || noop);
    });
    return Math.max(channel === 'keyset' ? this.epoch : 0, ...counts.map(({ version }) => version));
  }

  /** The decision on an event; `now` is undefined while the clock cannot be right. */
  offer(a: Announced, now: number | undefined): string {
    if (a.epoch > this.epoch) return 'later';
    if (!this.#isTrusted(a)) return 'untrusted';
    const mark = this.mark(a);
    if (this.#held.has(a) && a.version >= mark) return 'ring';
    if (a.version <= mark || a.expires <= (now ?? 0)) return 'refuse';
    if (now !== undefined) this.#held.add(a);
    else if (a.isForUs && !a.noop && (this.#waiting.get(a.channel)?.version ?? 0) < a.version)
      this.#waiting.set(a.channel, a);
    return now === undefined ? 'wait' : 'accept';
  }

  /** The clock is right: the one of each channel that waited for it is looked at again. */
  offerWaiting(now: number): void {
    for (const a of this.#waiting.values()) this.offer(a, now);
    this.#waiting.clear();
  }

  /** The current updates: the newest that counts of each channel, and a newer trial run. */
  current(now: number): Announced[] {
    const ours = [...this.#held].filter((a) => a.isForUs && a.kind !== 'keyset');
    const isPast = (each: Announced): boolean => this.mark(each) > each.version;
    return ours.filter((a) => !isPast(a) && this.#isTrusted(a) && a.expires > now);
  }

  /** The updates that have yet to be run: once, and not where the channel has just that content. */
  due(now: number): Announced[] {
    return this.current(now).filter(
      (each) => each.kind !== 'withdraw' && !this.#ran.has(each) && !this.#isInPlace(each),
    );
  }

  /** The node ran it. */
  ran(each: Announced): void {
    this.#ran.add(each);
    if (!each.noop) this.#lastContent.set(each.channel, each.content);
  }

  /** Key sets come one epoch at a time. */
  mayTakeUp(epoch: number): boolean {
    const isHeld = [...this.#held].some((a) => a.kind === 'keyset' && a.version === epoch);
    return epoch === this.epoch + 1 && isHeld;
  }

  #isInPlace({ channel, content, noop, rerun }: Announced): boolean {
    return !noop && !rerun && this.#lastContent.get(channel) === content;
  }

  #isTrusted({ kind, epoch }: Announced): boolean {
    return kind === 'keyset' || epoch === this.epoch;
  }
}
