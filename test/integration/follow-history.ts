import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { HistoryNode, secondKeySet } from '../support/history/node.ts';
import { nameOf, type Announced, type History, type Step } from '../support/history/history.ts';
import { ReferenceModel } from './reference-model.ts';

/** More rounds than any history needs: two for a key set, two for updates that waited for it. */
const healingRounds = 5;

/** Memory, where there is such a place: a disk would spend its time on fsync. */
const fastDirectory = existsSync('/dev/shm') ? '/dev/shm' : tmpdir();

/** A node and the model, side by side. */
class Pair {
  readonly model = new ReferenceModel();
  readonly node: HistoryNode;
  readonly #history: History;

  constructor(directory: string, told: History) {
    this.#history = told;
    this.node = new HistoryNode(directory, told);
  }

  async take(step: Step): Promise<void> {
    const { announced, hasSecondKeySet } = this.#history;
    switch (step.do) {
      case 'deliver': {
        const offered = announced[step.index % announced.length];
        if (offered !== undefined) await this.deliver(offered, step.isClockWrong);
        return;
      }
      case 'deliver key set':
        if (hasSecondKeySet) await this.deliver(secondKeySet);
        return;
      case 'catch up':
        for (const each of await this.node.served()) await this.deliver(each);
        return;
      case 'advance':
        await this.advance(step.callsLeft);
        return;
      case 'download':
        this.node.download(step.isHookLost);
        return;
      case 'apply':
        await this.apply(step.stepsLeft);
        return;
      case 'wait':
        this.node.wait(step.seconds);
    }
  }

  /** Returns the node's answer. */
  async deliver(offered: Announced, isClockWrong = false): Promise<string> {
    const now = isClockWrong ? undefined : this.node.now;
    const [said, should] = [
      await this.node.deliver(offered, isClockWrong),
      this.model.offer(offered, now),
    ];
    // Announcements for other nodes may be forgotten, and accepted anew.
    if (!offered.isForUs && said === 'accept' && should === 'ring') return said;
    if (said !== should)
      throw new Error(`${nameOf(offered)}: the node says ${said}, the model ${should}`);
    return said;
  }

  async advance(callsLeft?: number): Promise<void> {
    await this.node.advance(callsLeft);
    this.model.offerWaiting(this.node.now);
    this.compareMarks();
  }

  /** Returns the number of new announcements. */
  async apply(stepsLeft?: number): Promise<number> {
    const { model, node } = this;
    const runs = await node.apply(stepsLeft);
    let news = runs.length;
    // Key sets go first.
    if (node.epoch !== model.epoch) {
      if (!model.mayTakeUp(node.epoch)) throw new Error(`key set ${node.epoch} is in force`);
      model.epoch = node.epoch;
      news += 1;
    }
    for (const { channel, noop, version, content } of runs) {
      const due = model.due(node.now);
      const run = due.find(
        (each) =>
          each.channel === channel &&
          each.noop === noop &&
          (version === undefined || each.version === version) &&
          (content === undefined || each.content === content),
      );
      const what = `${channel}@${version === undefined ? `"${content ?? ''}"` : nameOf({ channel, version })}`;
      if (run === undefined)
        throw new Error(`${what} was run; due were: ${due.map(nameOf).join(' ') || 'none'}`);
      // A kill may have come before the outcome was written; then it is run again.
      if (stepsLeft === undefined || node.stateOf(run) === 'APPLIED') model.ran(run);
    }
    this.compareMarks();
    return news;
  }

  compareMarks(): void {
    for (const each of this.#history.announced) {
      if (!each.isForUs) continue;
      const [is, should] = [this.node.mark(each), this.model.mark(each)];
      if (is !== should) throw new Error(`the mark for ${nameOf(each)} is ${is}, not ${should}`);
    }
  }

  /** All faults are over: the node must end at the newest that is meant for it. */
  async heal(): Promise<void> {
    const { model, node } = this;
    for (let round = 1, isNews = true; isNews && round <= healingRounds; round += 1) {
      isNews = false;
      for (const each of await node.served())
        if ((await this.deliver(each)) === 'accept') isNews = true;
      await this.advance();
      node.download(true);
      await this.advance();
      if ((await this.apply()) > 0) isNews = true;
    }
    const due = model.due(node.now);
    if (due.length > 0) throw new Error(`never run: ${due.map(nameOf).join(' ')}`);
    for (const each of model.current(node.now))
      if (node.stateOf(each) !== 'APPLIED')
        throw new Error(`${nameOf(each)} is not recorded as applied`);
    if (this.#history.hasSecondKeySet && node.epoch !== 2) throw new Error('key set 2 never came');
    for (const each of this.#history.announced) {
      const isMeant = each.isForUs && each.epoch === node.epoch && each.expires > node.now;
      if (isMeant && !this.isSuperseded(each) && node.mark(each) < each.version)
        throw new Error(`${nameOf(each)} never came to the node`);
    }
  }

  /** Also by one that has expired since: the update that it replaced must not come back. */
  isSuperseded(old: Announced): boolean {
    return this.#history.announced.some(
      ({ channel, version, target, noop }) =>
        channel === old.channel &&
        version > old.version &&
        ((target === '' && !noop) || (target === old.target && noop === old.noop)),
    );
  }
}

/**
 * Lets a real node and the model live through one history.
 *
 * @throws Error where they differ, or where the node does not end at the newest updates meant for it
 */
export async function follow(told: History): Promise<void> {
  const directory = mkdtempSync(join(fastDirectory, 'p2p-history-'));
  try {
    const pair = new Pair(directory, told);
    for (const [index, step] of told.steps.entries())
      try {
        await pair.take(step);
      } catch (error) {
        throw new Error(`at step ${index + 1}`, { cause: error });
      }
    await pair.heal();
  } finally {
    rmSync(directory, { recursive: true });
  }
}
