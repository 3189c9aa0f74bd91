import { type StdioOptions } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import { writeKeySet, type TestKeys } from './announce.ts';
import { readState } from '../run/state.ts';
import { temporaryDirectory } from '../run/temporary.ts';
import { serfEnvironment } from './serf-environment.ts';
import { runSync, type CommandResult } from '../run/command.ts';

const handler = join(import.meta.dirname, '../../../dist/handlers/update.cjs');

/** A node's files without any daemon, on which the update handler runs as Serf runs it. */
export class UpdateNode {
  readonly stateDir: string;
  readonly #env: Record<string, string>;

  constructor(keys: TestKeys) {
    const directory = temporaryDirectory();
    const keySetFile = join(directory, 'keyset.txt');
    const configFile = join(directory, 'config.json');
    this.stateDir = join(directory, 'state');
    const applyDir = join(directory, 'apply');
    mkdirSync(this.stateDir);
    mkdirSync(applyDir);
    writeKeySet(keySetFile, keys);
    const { stateDir } = this;
    writeFileSync(configFile, JSON.stringify({ stateDir, applyDir, keySetFile }));
    this.#env = serfEnvironment(configFile);
  }

  /** Runs the handler on a payload, to which Serf adds a newline unless it is empty or ends in one. */
  handle(payload: string | Buffer): CommandResult {
    const bytes = Buffer.from(payload);
    const needsNewline = bytes.length > 0 && bytes.at(-1) !== 0x0a;
    return this.run({ input: needsNewline ? Buffer.concat([bytes, Buffer.from('\n')]) : bytes });
  }

  /** Runs the handler with its standard input as it is given. */
  run(options: { input: Buffer } | { stdio: StdioOptions }): CommandResult {
    return runSync([handler], { ...options, env: this.#env });
  }

  /** The lines of events.log. */
  events(): Record<string, unknown>[] {
    const file = join(this.stateDir, 'events.log');
    if (!existsSync(file)) return [];
    const lines = readFileSync(file, 'utf8').trimEnd().split('\n');
    return lines.map((line) => JSON.parse(line) as Record<string, unknown>);
  }

  /**
   * Shows that a run is a refusal: the exit status, one error with a hint, one line in events.log,
   * and every other file as it was.
   */
  expectRefusal(run: () => CommandResult, status: number, message: RegExp): void {
    const before = readState(this.stateDir);
    const eventsBefore = this.events();
    const result = run();
    expect(result).toMatchObject({ status, stdout: '' });
    expect(result.stderr).toMatch(/^update: error: .+\nupdate: hint: .+\n$/);
    expect(result.stderr).toMatch(message);
    expect(readState(this.stateDir)).toEqual(before);
    const events = this.events();
    expect(events).toHaveLength(eventsBefore.length + 1);
    expect(events.at(-1)).toMatchObject({ handler: 'update', decision: 'refuse' });
  }
}
