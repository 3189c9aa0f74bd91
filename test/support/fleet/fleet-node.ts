import { existsSync, readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Config } from '../../../lib/config.ts';
import { type Member, parseMembers } from '../../../lib/daemons/serf/members.ts';
import { eventLogFile, type LoggedLine, readEvents } from '../../../lib/system/event-log.ts';
import { type CommandOptions, type CommandResult, run } from '../run/command.ts';
import { repository } from '../run/repository.ts';
import { Daemon, tail } from './daemon.ts';
import {
  type NodeSettings,
  writeConfig,
  writeSerfConfig,
  writeTransmissionSettings,
} from './node-files.ts';

export { repository };

/** The environment is added to the node's own. */
export type RunOptions = CommandOptions;

/** One machine of a test fleet: its files, its daemons, and a way to run commands on it. */
export class FleetNode {
  readonly name: string;
  readonly address: string;
  readonly directory: string;
  readonly configFile: string;
  readonly config: Config;
  /** The environment of its daemons and commands, complete. */
  readonly env: Record<string, string>;
  readonly serf: Daemon;
  readonly transmission: Daemon;
  readonly namespace: string;
  readonly #rpcKey: string;

  constructor(settings: NodeSettings) {
    const { name, place, directory, secrets, daemonCommand } = settings;
    this.name = name;
    this.address = place.address;
    this.directory = directory;
    this.namespace = place.namespace;
    this.#rpcKey = secrets.rpcKey;
    this.config = writeConfig(settings);
    this.configFile = join(directory, 'etc', 'config.json');
    this.env = {
      PATH: `${dirname(process.execPath)}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/opt/puppetlabs/bin`,
      HOME: join(directory, 'home'),
      P2P_UPDATE_CONFIG: this.configFile,
    };
    writeSerfConfig(settings);
    this.serf = new Daemon({
      namespace: place.namespace,
      command: daemonCommand(
        ['serf', 'agent', '-config-dir', join(directory, 'serf')],
        `${name}-serf`,
      ),
      env: this.env,
      logFile: join(directory, 'serf.log'),
      port: 7373,
    });
    writeTransmissionSettings(settings, this.config);
    this.transmission = new Daemon({
      namespace: place.namespace,
      command: daemonCommand(
        ['transmission-daemon', '--foreground', '--config-dir', join(directory, 'transmission')],
        `${name}-transmission`,
      ),
      env: this.env,
      logFile: join(directory, 'transmission.log'),
      port: 9091,
    });
  }

  /** Runs a command on this node, in the repository unless told otherwise. */
  run(argv: readonly string[], options: RunOptions = {}): Promise<CommandResult> {
    // As npm test has it for every use of tsx.
    const env = { ...this.env, TSX_DISABLE_CACHE: '1', ...options.env };
    const command = ['ip', 'netns', 'exec', this.namespace, ...argv];
    return run(command, { cwd: repository, ...options, env });
  }

  /** Runs a command of p2p-update, such as `submit`, as an operator on this node would. */
  script(name: string, args: readonly string[], options: RunOptions = {}): Promise<CommandResult> {
    return this.run([join(repository, 'dist/p2p-update.cjs'), name, ...args], options);
  }

  /** Runs Serf's own command against this node's agent. */
  serfCommand(args: readonly string[]): Promise<CommandResult> {
    return this.run(['serf', ...args], { env: { SERF_RPC_AUTH: this.#rpcKey } });
  }

  /** The members that this node's agent holds to be alive; empty while the agent is down. */
  async aliveMembers(): Promise<Member[]> {
    const { status, stdout } = await this.serfCommand(['members', '-format', 'json']);
    if (status !== 0) return [];
    return parseMembers(JSON.parse(stdout)).filter((member) => member.status === 'alive');
  }

  /** Lines logged so far by both sides of this node, in the order of time. */
  events(): LoggedLine[] {
    const { stateDir, applyDir } = this.config;
    return [stateDir, applyDir]
      .flatMap(readEvents)
      .sort((a, b) => (a.time < b.time ? -1 : a.time > b.time ? 1 : 0));
  }

  /** The tail of every log: its daemons', events.log, and one for each run of Puppet. */
  logs(): string {
    const { stateDir, applyDir } = this.config;
    const runs = join(applyDir, 'runs');
    return [
      this.serf.logFile,
      this.transmission.logFile,
      eventLogFile(stateDir),
      eventLogFile(applyDir),
      ...(existsSync(runs) ? readdirSync(runs).map((name) => join(runs, name)) : []),
    ]
      .filter((file) => existsSync(file))
      .map((file) => tail(file, 10))
      .join('\n');
  }
}
