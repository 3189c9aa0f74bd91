import { nameOf } from '../../../lib/announcement/update.ts';
import type { Announced } from '../../../lib/query/announced.ts';
import { judgeFleet } from '../../../lib/query/judge-fleet.ts';
import type { ChannelFacts, CurrentUpdate, NodeSummary } from '../../../lib/query/node-summary.ts';
import type { Report } from '../../../scripts/status/report.ts';

/** The time at which a made fleet is asked, unix seconds. */
export const madeAt = 1_900_000_000;

/** Facts of a channel whose newest version is applied; `change` replaces fields of its current update. */
export function channelFacts(
  channel: string,
  version: number,
  change: Partial<CurrentUpdate> = {},
): ChannelFacts {
  const applied: CurrentUpdate = {
    ...{ version, state: 'APPLIED', since: madeAt - 30, reason: '', download: null },
    run: { exitCode: 2, changed: 1, failed: 0 },
  };
  const current = { ...applied, ...change };
  return {
    ...{ channel, newest: version, isNewestExpired: false, isWithdrawal: false },
    ...{ equivocation: 'none' as const, current },
    lastApplied: current.state === 'APPLIED' ? version : version - 1000,
  };
}

/** The answer of a node that is sound. */
export function nodeSummary(channels: ChannelFacts[]): NodeSummary {
  const facts = { software: '1.0.0', epoch: 1, isLimited: false, fault: '' };
  return { ...facts, newestCreated: madeAt - 50, channels };
}

/** An announcement of a manifest for all nodes. */
export function announcedManifest(change: Partial<Announced> = {}): Announced {
  return {
    ...{ kind: 'manifest' as const, name: 'site.pp', created: madeAt - 50, notBefore: 0 },
    ...{ target: '', signers: ['18a45322996cf13f'], isRevoked: false },
    ...change,
  };
}

/** The report on a fleet of named nodes; undefined: the node is down. */
export function madeReport(
  answers: Record<string, NodeSummary | undefined>,
  announced: Record<string, Announced> = {},
): Report {
  const names = Object.keys(answers);
  const known = new Map(Object.entries(announced));
  const staleAfterSeconds = 30 * 86_400;
  const status = judgeFleet({
    members: names.map((name) => ({
      name,
      status: answers[name] === undefined ? 'failed' : 'alive',
    })),
    answers: new Map(
      Object.entries(answers).flatMap(([n, a]) => (a === undefined ? [] : [[n, a]])),
    ),
    announced: known,
    staleAfterSeconds,
    nowSeconds: madeAt,
  });
  return { ...status, fleet: 'lab', at: madeAt, staleAfterSeconds, announced: known };
}

/**
 * The report on 50 nodes and 10 channels, with updates on their way among which some have failed, and two nodes
 * that are down.
 */
export function madeLargeReport(): Report {
  const channels = Array.from({ length: 10 }, (_, i) => `channel-${i}`);
  const version = (i: number): number => madeAt - 5000 + i;
  const answers: Record<string, NodeSummary | undefined> = {};
  for (let n = 1; n <= 50; n += 1) {
    const rows = channels.map((channel, i) => {
      if (i === 3 && n % 10 === 7)
        return channelFacts(channel, version(i), {
          state: 'POISONED',
          reason: 'File[/etc/motd]: change from absent to file failed: could not create it',
          run: { exitCode: 4, changed: 0, failed: 1 },
        });
      if (i % 2 === 1 && n > 20)
        return channelFacts(channel, version(i), {
          ...{ state: 'QUEUED', reason: 'in Transmission', run: null },
          download: { percent: n, bytesPerSecond: 125_000 },
        });
      return channelFacts(channel, version(i));
    });
    answers[`node-${n}`] = n === 33 || n === 41 ? undefined : nodeSummary(rows);
  }
  const announced = channels.map((channel, i) => [
    nameOf({ channel, version: version(i) }),
    announcedManifest({ name: `acme-module-${i}-1.2.${i}.tar.gz`, kind: 'module' }),
  ]);
  return madeReport(answers, Object.fromEntries(announced) as Record<string, Announced>);
}
