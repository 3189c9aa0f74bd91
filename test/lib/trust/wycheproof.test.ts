/**
 * Wycheproof's Ed25519 vectors through isGoodSignature. They are not copied into this repository:
 * the file lies beside it, in ../shared/vectors/, or where WYCHEPROOF_ED25519 says.
 *
 * Source: C2SP/wycheproof on GitHub, testvectors_v1/ed25519_test.json, Apache-2.0. Every one of its 151
 * vectors passed as of commit 5722833ca004983abd1a91bcb6c24596d50ac0f9, SHA-256
 * 752d2ea7d7c6cf4736381b6cbacb61f8182b126ab7cd9b058f00c50084975536. Their cases are made anew in
 * verify-forms.test.ts, which always runs.
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { isGoodSignature, publicKeyFromPem, publicKeyFromRaw } from '../../../lib/trust/ed25519.ts';
import { repository } from '../../support/run/repository.ts';

interface Vectors {
  numberOfTests: number;
  testGroups: {
    publicKey: { pk: string };
    publicKeyPem: string;
    tests: { tcId: number; comment: string; msg: string; sig: string; result: string }[];
  }[];
}

const beside = join(repository, '..', 'shared', 'vectors', 'ed25519_test.json');
const file = process.env['WYCHEPROOF_ED25519'] ?? (existsSync(beside) ? beside : undefined);
const { numberOfTests, testGroups }: Vectors =
  file === undefined
    ? { numberOfTests: 0, testGroups: [] }
    : (JSON.parse(readFileSync(file, 'utf8')) as Vectors);
const cases = testGroups.flatMap(({ publicKey, publicKeyPem, tests }) =>
  tests.map((test) => ({ ...test, raw: publicKey.pk, pem: publicKeyPem })),
);

describe.skipIf(file === undefined)('Wycheproof', () => {
  it('has all of its vectors in the file', () => {
    expect(cases).toHaveLength(numberOfTests);
    expect(new Set(cases.map(({ result }) => result))).toEqual(new Set(['valid', 'invalid']));
  });

  it.each(cases)('judges vector $tcId as $result: $comment', ({ raw, pem, msg, sig, result }) => {
    const key = publicKeyFromRaw(Buffer.from(raw, 'hex'));
    expect(publicKeyFromPem(pem)).toEqual(key);
    const isGood = isGoodSignature(Buffer.from(msg, 'hex'), key, Buffer.from(sig, 'hex'));
    expect(isGood).toBe(result === 'valid');
  });
});
