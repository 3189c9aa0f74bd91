import { readFileSync } from 'node:fs';

/** A process, as anybody who may look at it sees it. */
export interface Seen {
  command: string;
  environment: string;
}

/**
 * The command that runs another one and writes down each program that is started, itself included, with
 * all its arguments and its environment. Nothing is missed, however short it lives.
 */
export function tracing(file: string, command: readonly string[]): string[] {
  const what = ['-v', '-s', '1000000', '-e', 'trace=execve,execveat'];
  return ['strace', '-f', '-qq', '--seccomp-bpf', ...what, '-o', file, '--', ...command];
}

/** The programs of a trace. */
export function programsIn(file: string): Seen[] {
  const calls = readFileSync(file, 'latin1').matchAll(
    /execve(?:at)?\([^[]*(\[.*?\]), (\[.*\])(?=\)| <unfinished)/g,
  );
  return [...calls].map(([, command = '', environment = '']) => ({
    command: stringsIn(command),
    environment: stringsIn(environment),
  }));
}

function stringsIn(list: string): string {
  const strings = list.matchAll(/"((?:[^"\\]|\\.)*)"/g);
  return [...strings].map(([, text = '']) => text.replaceAll(/\\(["\\])/g, '$1')).join(' ');
}
