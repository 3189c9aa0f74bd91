import { mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { hasErrno } from '../../lib/errors.ts';
import { mustRun, runSync } from '../support/run/command.ts';

const imageBytes = 32 * 2 ** 20;
/** Commit interval in seconds, so long that no write reaches the disk by itself while a case runs. */
const commitSeconds = 3600;
const maxCopies = 20;

/** An ext4 file system in a file, mounted by a loop device. */
export interface DiskImage {
  /** Mount point. */
  place: string;
  /**
   * Cuts the power: copies the blocks that have reached the disk by now, while the file system goes on, and
   * mounts the copy, whose journal is replayed as at a boot. Every writer has to be stopped meanwhile.
   */
  cut(): CutDisk;
  /**
   * Cuts the power for good: from now on `place` has the blocks that had reached the disk, journal replayed.
   *
   * @param endAll ends every process that has a file open there
   */
  cutForGood(endAll: () => Promise<void>): Promise<void>;
  remove(): void;
}

/** The disk after a power cut. */
export interface CutDisk {
  /** Mount point. */
  place: string;
  /**
   * Runs a command as after a boot: it finds this disk where the image was, to which all paths lead, and
   * no process from before.
   *
   * @param instead directories outside of the disk, and those that it finds in their places
   */
  run(
    argv: readonly string[],
    env: Record<string, string>,
    instead: Readonly<Record<string, string>>,
  ): { status: number | null; stderr: string };
  remove(): void;
}

/** Why there can be no disk image here; undefined when there can. */
export function whyNoImage(): string | undefined {
  try {
    const image = makeImage(tmpdir());
    image.remove();
    return undefined;
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return 'mkfs.ext4 or mount is missing';
    const message = error instanceof Error ? error.message : String(error);
    return `an image cannot be mounted here: ${message.trim().split('\n').at(-1) ?? ''}`;
  }
}

/**
 * Makes an image in a new directory below `directory`. Its journal is committed when something is flushed
 * (fsync), and not by time. The loop device writes into the page cache of the backing file, which a copy
 * sees at once: a write that was given to the disk counts as durable, a disk with a cache of its own
 * that loses it is not played.
 *
 * @param place mount point; without it, a directory below `directory`
 */
export function makeImage(directory: string, place = ''): DiskImage {
  const here = mkdtempSync(join(directory, 'image-'));
  const at = place === '' ? join(here, 'mounted') : place;
  return mountedImage(here, at);
}

function mountedImage(here: string, place: string): DiskImage {
  let file = join(here, 'disk');
  writeFileSync(file, '');
  truncateSync(file, imageBytes);
  // Written in the background, later, otherwise.
  const whole = 'lazy_itable_init=0,lazy_journal_init=0';
  mustRun(['mkfs.ext4', '-q', '-F', '-E', whole, file]);
  mkdirSync(place, { recursive: true });
  mount(file, place);
  let cuts = 0;
  return {
    place,
    cut() {
      cuts += 1;
      const [copy, copyPlace] = [join(here, `cut-${cuts}`), join(here, `cut-${cuts}-mounted`)];
      copyAtRest(file, copy);
      mkdirSync(copyPlace);
      mount(copy, copyPlace);
      return {
        place: copyPlace,
        run(argv, env, instead) {
          const binds = Object.entries({ [place]: copyPlace, ...instead });
          const bind = binds.map(() => 'mount --bind "$1" "$2" && shift 2').join(' && ');
          const paths = binds.flatMap(([at, from]) => [from, at]);
          const shell = ['sh', '-c', `${bind} && exec "$@"`, 'sh', ...paths, ...argv];
          const own = ['--mount', '--pid', '--fork', '--mount-proc', '--kill-child'];
          const { status, stderr } = runSync(['unshare', ...own, ...shell], { env });
          return { status, stderr };
        },
        remove() {
          unmount(copyPlace);
          rmSync(copy);
        },
      };
    },
    async cutForGood(endAll) {
      cuts += 1;
      const copy = join(here, `cut-${cuts}`);
      copyAtRest(file, copy);
      await endAll();
      unmount(place);
      rmSync(file);
      file = copy;
      mount(file, place);
    },
    remove() {
      unmount(place);
      rmSync(here, { recursive: true });
    },
  };
}

/** Two copies that are the same show one instant: the kernel may write what is old by itself. */
function copyAtRest(file: string, copy: string): void {
  for (let tries = 1; tries <= maxCopies; tries += 1) {
    mustRun(['cp', '--sparse=always', file, copy]);
    if (runSync(['cmp', '-s', file, copy]).status === 0) return;
  }
  throw new Error(`${file} is written to all the time`);
}

function mount(file: string, place: string): void {
  const options = `loop,commit=${commitSeconds}`;
  mustRun(['mount', '-t', 'ext4', '-o', options, file, place]);
}

function unmount(place: string): void {
  mustRun(['umount', place]);
}
