import { cpSync, existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { replaceRecord } from '../../../lib/system/record.ts';
import { updateKey } from '../../../lib/announcement/update.ts';
import { HistoryNode, secondKeySet } from './node.ts';
import { startedAt, type Announced } from './history.ts';

const make = (channel: string, version: number, content: string): Announced => ({
  ...{ channel, content, version: startedAt + version, kind: 'file', target: '', isForUs: true },
  ...{ noop: false, rerun: false, epoch: 2, expires: startedAt + 100_000 },
});

/** Updates of the fleet, each in another state on the node of {@link makeSeasonedNode}. */
export const a1 = make('a', 1, 'one');
/** The newest of its channel: applied. */
export const a2 = make('a', 2, 'two');
export const b3 = make('b', 3, 'one');
/** The newest of its channel: staged. */
export const b4 = make('b', 4, 'two');
/** Waits for a plausible clock. */
export const c5 = make('c', 5, 'one');
/** Not announced yet. */
export const a6 = make('a', 6, 'three');
export const b7 = make('b', 7, 'three');

const announced = [a1, a2, b3, b4, c5, a6, b7];
export const keyOf = (id: Announced): string => updateKey(id);

/** A node that has lived for a while, in memory where there is such a place. */
export class DamagedNode {
  readonly directory: string;
  node: HistoryNode;
  readonly #saved: string;

  private constructor(directory: string) {
    this.directory = join(directory, 'node');
    this.#saved = join(directory, 'saved');
    this.node = new HistoryNode(this.directory, { announced, hasSecondKeySet: true, steps: [] });
  }

  /** Makes a node with two generations of every record, key set 2 in force, and an update under way. */
  static async make(): Promise<DamagedNode> {
    const base = existsSync('/dev/shm') ? '/dev/shm' : tmpdir();
    const directory = mkdtempSync(join(base, 'p2p-damage-'));
    onTestFinished(() => {
      rmSync(directory, { recursive: true, force: true });
    });
    const made = new DamagedNode(directory);
    const { node } = made;
    for (const wave of [[secondKeySet], [a1, b3], [a2]]) {
      for (const each of wave) await node.deliver(each);
      await made.reconcile();
    }
    await node.deliver(b4);
    await node.advance();
    node.download(false);
    // Staged, and killed when it was about to begin.
    for (let steps = 1; node.stateOf(b4) !== 'STAGED'; steps += 1) await node.apply(steps);
    await node.deliver(c5, true);
    const { stateDir, applyDir } = node.config;
    // Left by the program around this code.
    writeFileSync(join(applyDir, 'apply.lock'), '');
    replaceRecord(join(stateDir, 'catch-up'), { startedAt, epoch: 2, refused: [] });
    cpSync(made.directory, made.#saved, { recursive: true, preserveTimestamps: true });
    return made;
  }

  /** Restores it as it was made; Transmission has forgotten everything. */
  restore(): HistoryNode {
    rmSync(this.directory, { recursive: true, force: true });
    cpSync(this.#saved, this.directory, { recursive: true, preserveTimestamps: true });
    this.node = new HistoryNode(this.directory, { announced, hasSecondKeySet: true, steps: [] });
    return this.node;
  }

  /** Runs both sides until nothing is left to do; returns the contents that were put in place. */
  async reconcile(): Promise<{ ran: string[]; errors: unknown[] }> {
    const { node } = this;
    const errors: unknown[] = [];
    const attempt = async <T>(work: () => Promise<T>): Promise<T | undefined> => {
      try {
        return await work();
      } catch (error) {
        errors.push(error);
        return undefined;
      }
    };
    await attempt(() => node.advance());
    node.download(true);
    await attempt(() => node.advance());
    const seen = [...((await attempt(() => node.apply())) ?? []), ...node.seeRuns()];
    return { ran: seen.map(({ channel, content }) => `${channel} ${content}`), errors };
  }
}
