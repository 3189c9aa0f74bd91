import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { linkSync, mkdirSync, renameSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { basename, dirname, join } from 'node:path';
import { onTestFinished } from 'vitest';
import { mustRun } from '../support/run/command.ts';

/** The announced content. */
export const content = Buffer.alloc(100_000, 'content ');
const notRegular = /it is not a regular file/;

/** Root of a user namespace cannot make devices, but show those that there are elsewhere. */
export function bindDevice(device: string, place: string): void {
  writeFileSync(place, '');
  mustRun(['mount', '--bind', device, place]);
  onTestFinished(() => {
    mustRun(['umount', place]);
  });
}

/** A process that keeps on writing into a FIFO, and lives on without a reader. */
export async function writeInto(fifo: string): Promise<void> {
  const script = `trap '' PIPE; exec 3<>"$0"; echo ready; while :; do head -c 4096 /dev/zero >&3 || sleep 0.1; done`;
  const stdio = ['ignore', 'pipe', 'ignore'] as const;
  const writer = spawn('sh', ['-c', script, fifo], { stdio: [...stdio], detached: true });
  await once(writer.stdout, 'data');
  onTestFinished(async () => {
    const exit = once(writer, 'exit');
    process.kill(-(writer.pid ?? 0), 'SIGKILL');
    await exit;
  });
}

async function socketAt(place: string): Promise<void> {
  // A socket's own path has at most 107 bytes (unix(7)).
  const short = join(dirname(place), '../s');
  const server = createServer().listen(short);
  await once(server, 'listening');
  renameSync(short, place);
  onTestFinished(() => void server.close());
}

/** Files that an attacker may put in the place of a download: name, reason of the refusal, maker. */
export const hostilePlaces: [string, RegExp, (place: string) => void | Promise<void>][] = [
  [
    'a link to the right content',
    notRegular,
    (place) => {
      writeFileSync(`${place}.right`, content);
      symlinkSync(`${place}.right`, place);
    },
  ],
  [
    'a link to /etc/passwd',
    notRegular,
    (place) => {
      symlinkSync('/etc/passwd', place);
    },
  ],
  [
    'a link to itself',
    notRegular,
    (place) => {
      symlinkSync(basename(place), place);
    },
  ],
  [
    'a dangling link',
    notRegular,
    (place) => {
      symlinkSync('/nonexistent/file', place);
    },
  ],
  [
    'a link to a directory',
    notRegular,
    (place) => {
      symlinkSync('/', place);
    },
  ],
  [
    'a link to a device',
    notRegular,
    (place) => {
      symlinkSync('/dev/zero', place);
    },
  ],
  [
    'a FIFO without a writer',
    notRegular,
    (place) => {
      mustRun(['mkfifo', place]);
    },
  ],
  [
    'a FIFO with a writer',
    notRegular,
    async (place) => {
      mustRun(['mkfifo', place]);
      await writeInto(place);
    },
  ],
  [
    'a directory',
    notRegular,
    (place) => {
      mkdirSync(place);
    },
  ],
  ['a socket', notRegular, socketAt],
  [
    '/dev/zero',
    notRegular,
    (place) => {
      bindDevice('/dev/zero', place);
    },
  ],
  [
    '/dev/full',
    notRegular,
    (place) => {
      bindDevice('/dev/full', place);
    },
  ],
  [
    '/dev/tty',
    notRegular,
    (place) => {
      bindDevice('/dev/tty', place);
    },
  ],
  ['nothing', /there is no such file/, () => undefined],
  [
    'an empty file',
    /it has 0 bytes/,
    (place) => {
      writeFileSync(place, '');
    },
  ],
  [
    'a file one byte short',
    /it has 99999 bytes, not 100000/,
    (place) => {
      writeFileSync(place, content.subarray(1));
    },
  ],
  [
    'a file one byte too long',
    /it has 100001 bytes, not 100000/,
    (place) => {
      writeFileSync(place, Buffer.concat([content, Buffer.alloc(1)]));
    },
  ],
  [
    'a sparse file of a tebibyte',
    /it has 1099511627776 bytes/,
    (place) => {
      writeFileSync(place, content);
      truncateSync(place, 2 ** 40);
    },
  ],
  [
    'other content of the same length',
    /its SHA-256 is not the announced one/,
    (place) => {
      writeFileSync(place, Buffer.alloc(content.length, 'secret '));
    },
  ],
  [
    "a hard link to somebody's secret of the same length",
    /its SHA-256 is not the announced one/,
    (place) => {
      const secret = join(dirname(place), '../secret');
      writeFileSync(secret, Buffer.alloc(content.length, 'secret '), { mode: 0o600 });
      linkSync(secret, place);
    },
  ],
];
