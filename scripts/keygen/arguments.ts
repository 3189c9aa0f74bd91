import { resolve } from 'node:path';
import { isFleetId } from '../../lib/trust/key-set.ts';
import { commandLine } from '../cli/command-line.ts';

export const help = `Usage: p2p-update keygen --fleet NAME --out DIRECTORY [options]

Makes the keys of a new fleet (Ed25519) and its first key set:
  root.key, root.pub          signs key sets; keep it off line
  release.key, release.pub    signs updates
                              (root-1.key, release-1.key and so on when there are several)
  keyset.txt                  the key set that every node trusts

Options:
  --fleet NAME        unlike that of any other fleet: 1 to 64 printable ASCII characters, no space
  --out DIRECTORY     made with mode 0700 if missing; keys are never overwritten
  --signers N         release keys, 1 to 3 (default: 1)
  --threshold M       signatures that an update needs, 1 to N (default: 1)
  --roots N           root keys, 1 to 3 (default: 1)
  --root-threshold M  signatures that a key set needs, 1 to N (default: 1)
  --json              one JSON object on standard output
  --help

Exit status: 0 made, 64 usage, 75 the disk failed (nothing is left behind), 76 a file exists.
`;

const { parse, usage } = commandLine('keygen');

/** The arguments of keygen, checked; `directory` is absolute. */
export interface KeygenRequest {
  fleet: string;
  directory: string;
  signers: number;
  threshold: number;
  roots: number;
  rootThreshold: number;
  json: boolean;
}

/** Decides what the arguments ask for; undefined is help. Throws UpdateError `usage`. */
export function parseRequest(args: string[]): KeygenRequest | undefined {
  const values = parseOptions(args);
  if (values.help === true) return undefined;
  const { fleet, out, json = false } = values;
  if (fleet === undefined || !isFleetId(fleet))
    throw usage('--fleet needs a name, 1 to 64 printable ASCII characters without a space');
  if (out === undefined || out === '') throw usage('--out needs a directory');
  const signers = parseCount('--signers', values.signers, 3);
  const threshold = parseCount('--threshold', values.threshold, signers);
  const roots = parseCount('--roots', values.roots, 3);
  const rootThreshold = parseCount('--root-threshold', values['root-threshold'], roots);
  return { fleet, directory: resolve(out), signers, threshold, roots, rootThreshold, json };
}

function parseOptions(args: string[]) {
  return parse({
    args,
    options: {
      fleet: { type: 'string' },
      out: { type: 'string' },
      signers: { type: 'string' },
      threshold: { type: 'string' },
      roots: { type: 'string' },
      'root-threshold': { type: 'string' },
      json: { type: 'boolean' },
      help: { type: 'boolean', short: 'h' },
    },
  }).values;
}

function parseCount(option: string, text = '1', max: number): number {
  const count = /^\d$/.test(text) ? Number(text) : 0;
  if (count >= 1 && count <= max) return count;
  throw usage(`${option} must be 1 to ${max}, not ${JSON.stringify(text)}`);
}
