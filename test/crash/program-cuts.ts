import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { moduleTarball } from '../support/fleet/module.ts';
import { Random } from '../fuzz/random.ts';
import { makeImage } from './cut-image.ts';
import {
  brokenPromises,
  flush,
  makeCutNode,
  recover,
  type CutNode,
  type CutUpdate,
} from './cut-node.ts';
import { runWithPauses, type Ended } from './cut-pauses.ts';
import type { CrashFailure } from './result.ts';

const kinds = ['file', 'manifest', 'module'] as const;
type CutKind = (typeof kinds)[number];

/** Moments of a power cut. */
type Moment = 'after update' | 'after transmission-done' | 'during apply' | 'after apply';

export interface ProgramCuts {
  /** Number of cuts by their moment. */
  figures: Record<Moment, number>;
  failures: CrashFailure[];
}

interface ProgramCutOptions {
  /** Outside of any image. */
  directory: string;
  /** Directory of the programs. */
  dist: string;
  /** Number of updates that go through the node, their kinds in turn. */
  updates: number;
  /** Number of pauses in a run of apply for each cut; undefined: no cuts there. */
  every: number | undefined;
  seed: number;
  only: string | undefined;
  onUpdate: () => void;
}

/** Sends updates through a node on an image, and cuts its power after each program and during apply. */
export async function cutPrograms(options: ProgramCutOptions): Promise<ProgramCuts> {
  const { directory, dist, updates, every, seed, only, onUpdate } = options;
  const image = makeImage(directory);
  const cuts: ProgramCuts = {
    figures: {
      'after update': 0,
      'after transmission-done': 0,
      'during apply': 0,
      'after apply': 0,
    },
    failures: [],
  };
  try {
    const on = makeCutNode(image, directory, dist);
    for (let index = 0; index < updates; index += 1) {
      const kind = kinds[index % kinds.length] ?? 'file';
      const made = makeUpdate(on, kind, index);
      const cut = (moment: Moment, detail = ''): void => {
        const point = `power cut ${kind} ${index + 1} ${moment}${detail}`;
        if (only !== undefined && !point.includes(only)) return;
        cuts.figures[moment] += 1;
        const disk = image.cut();
        try {
          const breaches = brokenPromises(on, disk, made);
          // Without its marker an update waits for the next completion.
          if (breaches.length === 0 && made.promised.has('marker'))
            breaches.push(...recover(on, disk, made));
          for (const { invariant, text } of breaches)
            cuts.failures.push({ invariant, point, detail: text });
        } finally {
          disk.remove();
        }
      };
      await sendThrough(on, made, every, new Random(seed, index), cut);
      onUpdate();
    }
    return cuts;
  } finally {
    image.remove();
  }
}

/** Takes one update through event, download, hook and apply, with a cut after each and during the last. */
async function sendThrough(
  on: CutNode,
  made: CutUpdate,
  every: number | undefined,
  random: Random,
  cut: (moment: Moment, detail?: string) => void,
): Promise<void> {
  const { update, content, promised } = made;
  const { node, image } = on;
  expectDone(on.run('handlers/update.cjs', {}, `${update.payload}\n`), 'update');
  promised.add('fact');
  cut('after update');
  node.download(update, content);
  flush(image);
  expectDone(
    on.run('handlers/transmission-done.cjs', { TR_TORRENT_HASH: update.infoHash }),
    'transmission-done',
  );
  promised.add('marker');
  cut('after transmission-done');
  const { argv, env } = on.command('p2p-update.cjs apply');
  const first = every === undefined ? 0 : random.below(every);
  const ended =
    every === undefined
      ? on.run('p2p-update.cjs apply')
      : await runWithPauses(argv, env, join(on.puppetDir, '..', 'trace'), (pause) => {
          if (pause % every === first) cut('during apply', `, pause ${pause + 1}`);
        });
  // A program that was killed with strace is run again.
  expectDone(ended === 'not traced' ? on.run('p2p-update.cjs apply') : ended, 'apply');
  promised.add('applied');
  cut('after apply');
}

function expectDone({ status, stderr }: Ended, program: string): void {
  if (status !== 0) throw new Error(`${program} ended with ${String(status)}: ${stderr}`);
}

function makeUpdate({ node, puppetDir }: CutNode, kind: CutKind, index: number): CutUpdate {
  const text = `content ${index + 1}`;
  const promised: CutUpdate['promised'] = new Set();
  switch (kind) {
    case 'file': {
      const fields = { kind, channel: 'files', name: 'delivered.txt' } as const;
      return { update: node.sign(fields, text), content: text, effect: text, promised };
    }
    case 'manifest': {
      const manifest = `notice('${text}')\n`;
      const update = node.sign({ kind, channel: 'site' }, manifest);
      return { update, content: manifest, effect: null, promised };
    }
    case 'module': {
      const archive = readFileSync(moduleTarball(puppetDir, text));
      const effect = `class hello { file { "\${settings::confdir}/hello": content => '${text}' } }\n`;
      const fields = { kind, channel: 'acme-hello', name: 'acme-hello-1.0.0.tar.gz' } as const;
      node.announced.add(createHash('sha256').update(effect).digest('hex'));
      return { update: node.sign(fields, archive), content: archive, effect, promised };
    }
  }
}
