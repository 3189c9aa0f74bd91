import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { completionHooks, type Config } from '../../lib/config.ts';
import { commandPath } from '../../lib/daemons/puppet/puppet.ts';
import type { AgentInfo } from '../../lib/daemons/serf/client.ts';
import type { Member } from '../../lib/daemons/serf/members.ts';
import { describeError, UpdateError } from '../../lib/errors.ts';
import { type Check, checkOf } from '../../lib/health/check.ts';
import { nodeUser, transmissionUser } from '../../lib/state/layout.ts';
import { variableOf } from '../../lib/system/daemon-process.ts';
import { findCommand } from '../../lib/system/run-command.ts';
import { tryCommand } from '../../lib/system/try-command.ts';
import { readAddresses } from './addresses.ts';
import { type Context, maxCallSeconds, nameOf } from './context.ts';
import { managerOf, readHookSetting } from './file-checks.ts';
import { judgeHookRun, tryHook } from './hook-run.ts';
import { judgePuppet } from './machine-checks.ts';
import { judgeAgent, nameConflict, type SerfReply } from './serf-checks.ts';
import { judgeEncryption, judgeJoin } from './serf-file-checks.ts';
import { journalHas } from './systemd.ts';
import { judgeDaemon, judgeDirectory, judgeHook, judgeSettings } from './transmission-checks.ts';
import { askTransmission, readDownloadDirectory } from './transmission-facts.ts';

const puppetTimeoutMs = 30_000;

export interface SerfExamination {
  checks: Check[];
  members: Member[];
  info: AgentInfo | null;
}

/** Asks Serf's agent, and judges it. */
export async function examineSerf(context: Context): Promise<SerfExamination> {
  const { serf, units, accounts, view } = context;
  let reply: SerfReply;
  let info: AgentInfo | null = null;
  let members: Member[] = [];
  try {
    info = await serf.client.info();
    members = await serf.client.members();
    reply = { kind: 'up', isEncrypted: info.isEncrypted };
  } catch (error) {
    if (!(error instanceof UpdateError)) throw error;
    reply = {
      kind: error.code === 'configuration' ? 'refused' : 'down',
      why: describeError(error),
    };
  }
  const manager = managerOf(view);
  const self = members.find(({ name }) => name === info?.name);
  const alive = info === null ? null : members.filter(({ status }) => status === 'alive').length;
  const agent = judgeAgent({
    reply,
    unit: units?.get('serf.service') ?? null,
    hasNameConflict: reply.kind === 'down' && (await journalHas('serf', nameConflict)),
    nodeName: info?.name ?? null,
    runsAs: serf.process === undefined ? null : nameOf(serf.process.uid, accounts.users),
    user: view.user,
  });
  return {
    checks: [
      agent,
      judgeEncryption(serf.config, info?.isEncrypted ?? null, manager),
      judgeJoin(serf.config, alive, [self?.address ?? '', info?.name ?? ''], manager),
    ],
    members,
    info,
  };
}

export interface TransmissionExamination {
  checks: Check[];
  /** null: it did not answer. */
  session: Readonly<Record<string, unknown>> | null;
  /** Info hashes of what the daemon has whole. */
  complete: ReadonlySet<string>;
}

/** Asks Transmission, runs its hook, and judges both. */
export async function examineTransmission(context: Context): Promise<TransmissionExamination> {
  const { config, view, accounts, units, transmission, isSplit: split } = context;
  const { reply, complete } = await askTransmission(config, maxCallSeconds);
  const session = reply.kind === 'up' ? reply.session : null;
  const told = session?.['config-dir'];
  const settingsFile = typeof told === 'string' ? join(told, 'settings.json') : view.settingsFile;
  const manager = managerOf(view);
  const { machine, codeDir } = view;
  const daemon = judgeDaemon({
    ...{ reply, manager, settingsFile, loginFile: config.transmission.credentialsFile },
    hasIPv4: readAddresses().hasIPv4,
    unit: units?.get('transmission-daemon.service') ?? null,
  });
  const hook =
    session === null
      ? readHookSetting({ machine, settingsFile })
      : {
          isEnabled: session['script-torrent-done-enabled'] === true,
          file: String(session['script-torrent-done-filename']),
        };
  const hooks = completionHooks(config, codeDir);
  const process = transmission.process;
  const uid = process?.uid ?? accounts.users.get(transmissionUser)?.uid;
  const account = [...accounts.users.values()].find((user) => user.uid === uid);
  const run =
    hook?.isEnabled === true && existsSync(hook.file)
      ? await tryHook(hook.file, account, process && variableOf(process.pid, 'P2P_UPDATE_CONFIG'))
      : null;
  const checks = [
    daemon,
    session === null
      ? checkOf('transmission-settings', 'Transmission settings').skipped(
          'Transmission does not answer',
        )
      : judgeSettings(session),
    judgeHook(hook, hooks, existsSync, { settingsFile, manager }),
    judgeHookRun(run),
    judgeDirectory({
      ...readDownloadDirectory(config.downloadDir, uid, accounts),
      daemons: session?.['download-dir'] ?? config.downloadDir,
      isMember: split
        ? accounts.groups.get(transmissionUser)?.members.includes(nodeUser) === true
        : null,
      user: uid === undefined ? transmissionUser : nameOf(uid, accounts.users),
    }),
  ];
  return { checks, session, complete };
}

/** Looks for Puppet, and judges it. */
export async function examinePuppet({ puppet }: Config): Promise<Check> {
  const { command } = puppet;
  const path = (await findCommand(command, commandPath)) ?? null;
  const isLocked = path === null && command.startsWith('/') && existsSync(command);
  const version = path === null ? null : await puppetVersion(path);
  return judgePuppet({ command, path, isLocked, version });
}

/** Asks Puppet for its version; it makes files in the home of any user but root, so it gets one for the time. */
async function puppetVersion(path: string): Promise<string | null> {
  const home = mkdtempSync(join(tmpdir(), 'p2p-update-doctor-'));
  try {
    const env = { PATH: commandPath, LANG: 'C.UTF-8', HOME: home };
    const end = await tryCommand([path, '--version'], { timeoutMs: puppetTimeoutMs, env });
    return end.status === 0 ? end.stdout.trim() : null;
  } finally {
    rmSync(home, { recursive: true, force: true });
  }
}
