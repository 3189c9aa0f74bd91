/**
 * Numbers that follow from a seed and a run's index alone: xoshiro128** (Blackman, Vigna), its state
 * filled by splitmix32. Any one run can so be repeated without those before it.
 */
export class Random {
  readonly #state: Uint32Array;

  constructor(seed: number, index: number) {
    let z = (Math.imul(seed, 0x9e3779b1) ^ Math.imul(index, 0x85ebca6b)) + seed;
    this.#state = Uint32Array.from({ length: 4 }, () => {
      z = (z + 0x9e3779b9) | 0;
      let t = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
      t = Math.imul(t ^ (t >>> 15), 0x735a2d97);
      return t ^ (t >>> 15);
    });
  }

  /** 0 to 2^32-1. */
  next(): number {
    const [a = 0, b = 0, c = 0, d = 0] = this.#state;
    const product = Math.imul(b, 5);
    const result = Math.imul((product << 7) | (product >>> 25), 9) >>> 0;
    this.#state[2] = c ^ a ^ (b << 9);
    const mixed = d ^ b;
    this.#state[1] = b ^ c ^ a;
    this.#state[0] = a ^ mixed;
    this.#state[3] = (mixed << 11) | (mixed >>> 21);
    return result;
  }

  /** 0 to `limit` - 1. */
  below(limit: number): number {
    return this.next() % limit;
  }

  /** `min` to `max`, both included. */
  between(min: number, max: number): number {
    return min + this.below(max - min + 1);
  }

  pick<T>(items: readonly T[]): T {
    const item = items[this.below(items.length)];
    if (item === undefined) throw new Error('nothing to pick from');
    return item;
  }

  bytes(length: number): Buffer {
    return Buffer.from(Uint8Array.from({ length }, () => this.next()));
  }
}
