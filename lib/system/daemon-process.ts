import { readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs';

/** A running daemon, as proc(5) shows it. */
export interface DaemonProcess {
  pid: number;
  uid: number;
  argv: string[];
}

/**
 * Finds a daemon of this machine by the name of its program; a container's with a network of its own is
 * left out, where this user may see that.
 *
 * @param accepts whether the arguments are those of the daemon
 */
export function findDaemon(
  program: string,
  accepts: (argv: readonly string[]) => boolean = () => true,
): DaemonProcess | undefined {
  const own = linkOf('/proc/self/ns/net');
  // proc(5): comm has 15 characters at most.
  const comm = program.slice(0, 15);
  const found = readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => {
      const network = linkOf(`/proc/${pid}/ns/net`);
      if (network !== undefined && network !== own) return [];
      const daemon = readDaemon(pid, comm);
      return daemon !== undefined && accepts(daemon.argv)
        ? [{ daemon, isSure: network !== undefined }]
        : [];
    });
  return (found.find(({ isSure }) => isSure) ?? found[0])?.daemon;
}

function readDaemon(pid: string, comm: string): DaemonProcess | undefined {
  try {
    if (readFileSync(`/proc/${pid}/comm`, 'utf8').trimEnd() !== comm) return undefined;
    const argv = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').slice(0, -1);
    return { pid: Number(pid), uid: statSync(`/proc/${pid}`).uid, argv };
  } catch {
    // It has ended meanwhile.
    return undefined;
  }
}

function linkOf(path: string): string | undefined {
  try {
    return readlinkSync(path);
  } catch {
    return undefined;
  }
}

/** The value of an option in a command line: `-name value`, `-name=value`, with one dash or two. */
export function optionOf(argv: readonly string[], ...names: readonly string[]): string | undefined {
  for (const [index, word] of argv.entries()) {
    const [, name, value] = /^--?([\w-]+)(?:=(.*))?$/s.exec(word) ?? [];
    if (name !== undefined && names.includes(name)) return value ?? argv[index + 1];
  }
  return undefined;
}

/** The value of one variable in the environment of a process; undefined when this user may not look. */
export function variableOf(pid: number, name: string): string | undefined {
  try {
    return readFileSync(`/proc/${pid}/environ`, 'utf8')
      .split('\0')
      .find((line) => line.startsWith(`${name}=`))
      ?.slice(name.length + 1);
  } catch {
    return undefined;
  }
}
