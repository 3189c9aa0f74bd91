import { softwareVersion } from '../../lib/build.ts';
import { commandHint } from '../../lib/command-hint.ts';
import { commandLineOf } from './command-line.ts';
import { type Command, defineCommand } from './define-command.ts';
import { print } from './output.ts';

interface Entry {
  name: string;
  /** One line, for the list of commands. */
  summary: string;
  /** Loads the bundle of this command alone, so that help and every other command start fast. */
  load: () => Promise<Command>;
}

const name = 'p2p-update';

/** Every command, in the order of the help. */
export const commands: readonly Entry[] = [
  {
    name: 'submit',
    summary: 'announce an update to the fleet, and seed it',
    load: async () => (await import('../submit/command.ts')).submit,
  },
  {
    name: 'renew',
    summary: 'sign a kept announcement again, with a new version',
    load: async () => (await import('../submit/command.ts')).renew,
  },
  {
    name: 'withdraw',
    summary: 'stop the current update of a channel',
    load: async () => (await import('../submit/command.ts')).withdraw,
  },
  {
    name: 'status',
    summary: 'show the updates of every node, and whether the fleet has converged',
    load: async () => (await import('../status/command.ts')).status,
  },
  {
    name: 'doctor',
    summary: 'check this node, and show the commands that mend it',
    load: async () => (await import('../doctor/command.ts')).doctor,
  },
  {
    name: 'log',
    summary: 'show the log of this node, or of one channel or update',
    load: async () => (await import('../log/command.ts')).log,
  },
  {
    name: 'keys',
    summary: 'show and change the keys that may sign for the fleet',
    load: async () => (await import('../keys/command.ts')).keys,
  },
  {
    name: 'keygen',
    summary: 'make the keys of a new fleet',
    load: async () => (await import('../keygen/command.ts')).keygen,
  },
  {
    name: 'retire',
    summary: 'take a node that is gone out of the fleet',
    load: async () => (await import('../retire/command.ts')).retire,
  },
  {
    name: 'setup',
    summary: 'make this machine, or an image, a node',
    load: async () => (await import('../setup/command.ts')).setup,
  },
  {
    name: 'invite',
    summary: 'print the line by which the next machine joins the fleet',
    load: async () => (await import('../invite/command.ts')).invite,
  },
  {
    name: 'reconcile',
    summary: 'bring this node up to date',
    load: async () => (await import('../reconcile/command.ts')).reconcile,
  },
  {
    name: 'retry',
    summary: 'try updates again that failed on this node',
    load: async () => (await import('../reconcile/command.ts')).retry,
  },
  {
    name: 'apply',
    summary: "run the apply side alone, for root's unit",
    load: async () => (await import('../reconcile/command.ts')).apply,
  },
  {
    name: 'version',
    summary: 'show the version of this software',
    load: () => Promise.resolve(version),
  },
  {
    name: 'help',
    summary: 'show this list, or the usage of COMMAND',
    load: () => Promise.resolve(help),
  },
];

const helpText = `Usage: ${name} COMMAND [arguments]

Spreads updates over a fleet of machines without a server, by Serf, Transmission and Puppet.

Commands:
${commands.map((each) => `  ${each.name.padEnd(11)}${each.summary}\n`).join('')}
${name} help COMMAND, or COMMAND --help, shows the usage of a command; --version the version.
`;

const { parse, usage, unknownWord } = commandLineOf(() => commandHint('help'));
const helpOption = { help: { type: 'boolean', short: 'h', default: false } } as const;

const help = defineCommand(name, helpText, async (args) => {
  const { positionals } = parse({ args, allowPositionals: true, options: helpOption });
  const [word, ...more] = positionals;
  if (more.length > 0) throw usage('help takes one command at a time');
  print(word === undefined ? helpText : (await findCommand(word).load()).help);
});

const versionText = `Usage: ${name} version\n\nPrints the version of this software.\n`;
const version = defineCommand(name, versionText, (args) => {
  const { values } = parse({ args, options: helpOption });
  print(values.help ? versionText : `${softwareVersion}\n`);
});

/** The program without a command: options of its own, or nothing at all. */
const program = defineCommand(name, helpText, async ([word, ...rest]) => {
  if (word === undefined) {
    process.stderr.write(helpText);
    process.exitCode = 64;
  } else if (word.startsWith('-')) {
    const options = { ...helpOption, version: { type: 'boolean', default: false } } as const;
    const { values } = parse({ args: [word], options });
    await (values.version ? version : help).run(rest);
  } else await (await findCommand(word).load()).run(rest);
});

function findCommand(word: string): Entry {
  const known = commands.map((each) => each.name);
  const found = commands.find((each) => each.name === word);
  if (found === undefined) throw unknownWord('command', word, known);
  return found;
}

/**
 * Runs the program and sets the exit status. Never throws.
 *
 * @param args the arguments after the program's name
 */
export function runProgram(args: string[]): Promise<void> {
  return program.run(args);
}
