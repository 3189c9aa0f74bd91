/** One system call in strace's output. */
export interface SystemCall {
  thread: number;
  name: string;
  /** The files that it names or has open. */
  paths: string[];
  /** Its arguments as strace shows them. */
  text: string;
  /** As strace shows it; '?' when the process did not live to see it. */
  result: string;
  isInjected: boolean;
}

/**
 * The calls that can change a file, a directory or the state of another program. A name that this
 * machine does not have is left out (the `?`).
 */
export const tracedCalls = [
  'open,openat,creat,write,writev,pwrite64,pwritev,pwritev2,fsync,fdatasync,sync_file_range',
  'rename,renameat,renameat2,link,linkat,symlink,symlinkat,unlink,unlinkat,mkdir,mkdirat,rmdir',
  'chmod,fchmod,fchmodat,chown,fchown,lchown,fchownat,truncate,ftruncate,fallocate,utimensat',
  'copy_file_range,sendfile,sendto,sendmsg',
]
  .flatMap((line) => line.split(','))
  .map((name) => `?${name}`)
  .join(',');

const ofDescriptor =
  /^(write|writev|pwrite|pwritev|fsync|fdatasync|sync_file|fchmod$|fchown$|ftruncate|fallocate|send)/;

/**
 * Parses the output of `strace -yy -o`, with or without `-f`. The two halves of a call that another thread interrupted
 * are put together; lines about signals and exits are left out.
 */
export function parseTrace(output: string): SystemCall[] {
  const calls: SystemCall[] = [];
  const unfinished = new Map<number, SystemCall>();
  for (const line of output.split('\n')) {
    const resumed = /^(\d+ +)?<\.\.\. \w+ resumed>(.*)$/.exec(line);
    if (resumed !== null) {
      const call = unfinished.get(threadOf(resumed[1]));
      if (call === undefined) continue;
      unfinished.delete(call.thread);
      Object.assign(call, resultOf(resumed[2] ?? ''));
      continue;
    }
    const [, thread, name, rest] = /^(\d+ +)?(\w+)\((.*)$/.exec(line) ?? [];
    if (name === undefined || rest === undefined) continue;
    const text = rest.replace(/ *<unfinished \.\.\.>$/, '');
    const call = { thread: threadOf(thread), name, text, paths: pathsOf(name, text) };
    calls.push({ ...call, ...resultOf(text === rest ? rest : '') });
    const last = calls.at(-1);
    if (text !== rest && last !== undefined) unfinished.set(last.thread, last);
  }
  return calls;
}

/** Without -f there is one thread, and strace does not name it. */
const threadOf = (prefix: string | undefined): number => Number(prefix ?? 0);

/** The result is behind the last `) = `; a string among the arguments may hold anything. */
function resultOf(rest: string): Pick<SystemCall, 'result' | 'isInjected'> {
  const result = /\) += (-?\w+|\?)([^"]*)$/.exec(rest);
  const text = result === null ? '?' : `${result[1] ?? ''}${result[2] ?? ''}`.trim();
  return { result: text, isInjected: text.includes('(INJECTED)') };
}

function pathsOf(name: string, text: string): string[] {
  const descriptor = /^\d+<(.*?)>(?=[,)]|$)/.exec(text)?.[1];
  if (ofDescriptor.test(name)) return descriptor === undefined ? [] : [descriptor];
  const quoted = [...text.matchAll(/"((?:[^"\\]|\\.)*)"/g)].map(([, path]) => path ?? '');
  // futimens(3) names a descriptor only.
  return quoted.length === 0 && descriptor !== undefined ? [descriptor] : quoted;
}

/** Whether a call changes a file below `directory`, or asks a daemon for a change. */
export function isStateChanging(call: SystemCall, directory: string): boolean {
  // A failed call has changed nothing, such as mkdir(2) of an existing directory.
  if (call.result.startsWith('-1')) return false;
  if (isRequest(call)) return true;
  if (/^open/.test(call.name) && !/\bO_(CREAT|TRUNC)\b/.test(call.text)) return false;
  return call.paths.some((path) => path.startsWith(`${directory}/`));
}

/** A request by which Transmission changes something; the others only ask. */
export function isRequest({ name, paths, text }: SystemCall): boolean {
  if (!/^(write|send)/.test(name) || paths[0]?.startsWith('TCP') !== true) return false;
  const method = requestMethod(text);
  return method !== undefined && !/-get$|^session-stats$|^free-space$/.test(method);
}

/** The method of a request to Transmission's RPC. */
export function requestMethod(text: string): string | undefined {
  return /\\"method\\":\\"([a-z-]+)\\"/.exec(text)?.[1];
}

/**
 * Key of a call that is the same in every run of a program: its name and paths, without the parts that
 * are random or count the time.
 */
export function keyOf(call: SystemCall, directory: string): string {
  const method = requestMethod(call.text);
  if (call.paths[0]?.startsWith('TCP') === true) return `${call.name} ${method ?? 'TCP'}`;
  const paths = call.paths.map((path) =>
    path
      .replace(`${directory}/`, '')
      .replace(/\.tmp-[\w-]+$/, '.tmp-*')
      .replace(/@\d+/, '@*')
      .replace(/(\/modules\/[^/]*)-\w{6}(?=\/|$)/, '$1-*'),
  );
  // chmod and open of the same file may mean different things by their flags; paths do here.
  return [call.name, ...paths].join(' ');
}

/** True when no part of a path differs from run to run, so that strace can be told to look for it. */
export function isFixedPath(path: string): boolean {
  return path.startsWith('/') && !/\.tmp-|\/modules\/[^/]*-\w{6}(\/|$)/.test(path);
}
