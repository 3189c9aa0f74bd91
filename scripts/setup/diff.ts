import { createTwoFilesPatch } from 'diff';
import { printable } from '../../lib/system/printable.ts';
import type { SetupStep } from './plan.ts';

/** Members of JSON files that are secrets. */
const secretMember = /("(?:encrypt_key|rpc_auth|password|rpc-password)"\s*:\s*)"(?:[^"\\]|\\.)*"/g;
const isWhollySecret = (path: string): boolean => /\.key$/.test(path);

/** The texts that a step writes, as a unified diff without secrets; empty for a step that writes none. */
export function formatDiff(step: SetupStep): string {
  if (step.kind !== 'write-file' && step.kind !== 'write-settings') return '';
  const { path, old, text } = step;
  if (isWhollySecret(path)) return `--- ${path}\n+++ ${path}\n (a secret, not shown)\n`;
  const isChanged = secretsOf(old ?? '') !== secretsOf(text);
  const patch = createTwoFilesPatch(
    old === undefined ? '/dev/null' : path,
    path,
    hideSecrets(old ?? '', old !== undefined && isChanged ? '(the old secret)' : '(secret)'),
    hideSecrets(text, isChanged ? '(a new secret)' : '(secret)'),
    undefined,
    undefined,
    { context: 2 },
  );
  const lines = patch.split('\n');
  // Above it are a name, and a rule of = signs.
  lines.splice(
    0,
    lines.findIndex((line) => line.startsWith('--- ')),
  );
  // Control characters are escaped, which steer terminals; a backslash stays what it is.
  return lines.map((line) => printable(line).replaceAll('\\\\', '\\')).join('\n');
}

function hideSecrets(text: string, by: string): string {
  return text.replace(secretMember, (_, start: string) => `${start}"${by}"`);
}

function secretsOf(text: string): string {
  return [...text.matchAll(secretMember)].map(([all]) => all).join('\n');
}
