import { readdirSync, readFileSync } from 'node:fs';

/** The user of a program: real, effective, saved and file-system ids as /proc has them, sorted groups. */
export interface Identity {
  uids: string;
  gids: string;
  groups: string;
  noNewPrivileges: boolean;
  /** Effective capabilities, hexadecimal. */
  capabilities: string;
}

const everyMs = 5;

/** Looks at every process of the sandbox, again and again, and remembers as whom programs run. */
export class ProcessSampler {
  /** By the base name of the program: each different identity that it was seen with. */
  readonly #seen = new Map<string, Map<string, Identity>>();
  readonly #programs: readonly string[];
  readonly #timer: NodeJS.Timeout;

  /**
   * @param programs what is looked for: the base name of one of a command's first two arguments, with
   *   the argument after it where that tells programs apart
   */
  constructor(programs: readonly string[]) {
    this.#programs = programs;
    this.#timer = setInterval(() => {
      this.#sample();
    }, everyMs);
  }

  /** Each different identity of a program; none when it was not seen. */
  of(program: string): Identity[] {
    return [...(this.#seen.get(program)?.values() ?? [])];
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  #sample(): void {
    for (const pid of readdirSync('/proc')) {
      if (!/^\d+$/.test(pid)) continue;
      try {
        const argv = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').slice(0, 3);
        const [first = '', second = '', third = ''] = argv.map((each) => each.replace(/.*\//, ''));
        const names = [first, second, `${first} ${second}`, `${second} ${third}`];
        const program = this.#programs.find((each) => names.includes(each));
        if (program === undefined) continue;
        const identity = readIdentity(pid);
        const identities = this.#seen.get(program) ?? new Map<string, Identity>();
        identities.set(JSON.stringify(identity), identity);
        this.#seen.set(program, identities);
      } catch {
        // It has ended meanwhile.
      }
    }
  }
}

function readIdentity(pid: string): Identity {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  const field = (name: string): string =>
    new RegExp(`^${name}:\\s*(.*?)\\s*$`, 'm').exec(status)?.[1] ?? '';
  const numbers = field('Groups').split(/\s+/).filter(Boolean).map(Number);
  return {
    uids: field('Uid').replace(/\s+/g, ' '),
    gids: field('Gid').replace(/\s+/g, ' '),
    groups: numbers.sort((a, b) => a - b).join(' '),
    noNewPrivileges: field('NoNewPrivs') === '1',
    capabilities: field('CapEff'),
  };
}
