import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { UpdateError } from '../../../../lib/errors.ts';
import { type SerfSettings, connectSerf } from '../../../../lib/daemons/serf/client.ts';
import { parseMembers } from '../../../../lib/daemons/serf/members.ts';

// Behaviour that only a real agent can show is in test/integration/serf.test.ts.

const dir = mkdtempSync(join(tmpdir(), 'serf-client-'));
afterAll(() => {
  rmSync(dir, { recursive: true });
});

const n1 = {
  name: 'n1',
  addr: '192.0.2.1:7946',
  port: 7946,
  tags: { bt: '51413', role: 'web,db=1' },
  status: 'alive',
  protocol: { max: 5, min: 2, version: 5 },
};

describe('parseMembers', () => {
  it('parses the JSON of serf members', () => {
    expect(parseMembers({ members: [n1] })).toEqual([
      {
        name: 'n1',
        address: '192.0.2.1',
        port: 7946,
        status: 'alive',
        tags: { bt: '51413', role: 'web,db=1' },
      },
    ]);
  });

  it.each([
    ['IPv6', { addr: '[2001:db8::1]:7946' }, { address: '2001:db8::1' }],
    ['no tags', { tags: null }, { tags: {} }],
    ['a tag that is no text', { tags: { bt: 51413, role: 'web' } }, { tags: { role: 'web' } }],
    ['the status failed', { status: 'failed' }, { status: 'failed' }],
    ['a name in another script', { name: 'knoten-ä' }, { name: 'knoten-ä' }],
  ])('takes a member with %s', (_, change, expected) => {
    expect(parseMembers({ members: [{ ...n1, ...change }] })).toMatchObject([expected]);
  });

  it.each([
    ['null', null],
    ['no object', 'n1'],
    ['no name', { ...n1, name: '' }],
    ['a name that is no text', { ...n1, name: 7 }],
    ['no address', { ...n1, addr: undefined }],
    ['a host name for an address', { ...n1, addr: 'example.org:7946' }],
    ['an address without a port', { ...n1, addr: '192.0.2.1' }],
    ['port 0', { ...n1, addr: '192.0.2.1:0' }],
    ['port 65536', { ...n1, addr: '192.0.2.1:65536' }],
    ['an unknown status', { ...n1, status: 'excellent' }],
  ])('leaves out a malformed member, and keeps the others: %s', (_, member) => {
    expect(parseMembers({ members: [member, n1] }).map(({ name }) => name)).toEqual(['n1']);
  });

  it('returns 10,000 members at most', () => {
    expect(parseMembers({ members: Array.from({ length: 10_001 }, () => n1) })).toHaveLength(
      10_000,
    );
  });

  it('returns no members for an agent that knows none', () => {
    expect(parseMembers({ members: null })).toEqual([]);
  });

  it.each([
    ['null', null],
    ['a list', [n1]],
    ['an object without a list', { members: {} }],
    ['text', 'n1'],
  ])('refuses a reply that is %s', (_, reply) => {
    expect(() => parseMembers(reply)).toThrow(UpdateError);
  });
});

describe('connectSerf', () => {
  it.each([
    ['prints no JSON', 'echo hello', 'unavailable', 'malformed response'],
    ['prints without end', 'exec yes', 'unavailable', 'malformed response'],
    ['fails without a word', 'exit 3', 'unavailable', 'nothing, and ended with exit status 3'],
    ['is ended by a signal', 'kill -TERM $$', 'unavailable', 'nothing, and ended with SIGTERM'],
    [
      'fails with control characters',
      String.raw`printf 'a\033[2Jb\n\n'; exit 1`,
      'unavailable',
      String.raw`: a\u001b[2Jb`,
    ],
    [
      'knows our key to be wrong',
      'echo "Error connecting to Serf agent: Invalid authentication token"; exit 1',
      'configuration',
      'refuses our RPC key',
    ],
  ])('reports a serf command that %s', async (_, script, code, message) => {
    const error = await failureOf(connectSerf(stub(script)).members());
    expect(error.code).toBe(code);
    expect(error.message).toContain(message);
  });

  it('ends a serf command that hangs', async () => {
    const error = await failureOf(connectSerf(stub('exec sleep 60', 0.2)).members());
    expect(error.code).toBe('unavailable');
    expect(error.message).toContain('does not answer within 0.2 s');
  });

  it('names a serf command that is not installed, and hints to install it', async () => {
    const serf = connectSerf({ ...stub('true'), command: join(dir, 'no-serf') });
    const error = await failureOf(serf.members());
    expect(error.code).toBe('unavailable');
    expect(error.message).toContain('no-serf cannot be run');
    expect(error.hint).toContain('install Serf');
  });

  it('gives the key to the serf command by its environment alone, and no other variable', async () => {
    const rpcAuthFile = join(dir, 'rpc.key');
    writeFileSync(rpcAuthFile, 'a secret key\n');
    const report = join(dir, 'report');
    const script = `{ env; echo "argv: $*"; } > '${report}'; echo '{"members":[]}'`;
    await connectSerf({ ...stub(script), rpcAuthFile }).members();
    const lines = readFileSync(report, 'utf8').split('\n');
    // PWD and _ are the shell's own.
    expect(
      lines.filter((line) => line !== '' && !/^(PATH|PWD|_|SHLVL|OLDPWD)=/.test(line)).sort(),
    ).toEqual([
      'SERF_RPC_ADDR=127.0.0.1:7373',
      'SERF_RPC_AUTH=a secret key',
      'argv: members -format json',
    ]);
  });

  it.each([
    ['missing', undefined, 'cannot be read'],
    ['empty', '\n', 'is not one line of text'],
    ['of two lines', 'key\nkey\n', 'is not one line of text'],
  ])('refuses to call with a key file that is %s', async (what, content, message) => {
    const rpcAuthFile = join(dir, `${what}.key`);
    if (content !== undefined) writeFileSync(rpcAuthFile, content);
    const error = await failureOf(connectSerf({ ...stub('true'), rpcAuthFile }).members());
    expect(error.code).toBe('configuration');
    expect(error.message).toContain(message);
  });

  it.each([
    ['with a NUL byte', 'a\0b', 'NUL'],
    ['larger than any Serf takes', 'x'.repeat(9217), 'limit of 9216 bytes'],
  ])('refuses to send a payload %s', async (_, payload, message) => {
    const error = await failureOf(connectSerf(stub('exit 1')).sendEvent('update', payload));
    expect(error.code).toBe('malformed');
    expect(error.message).toContain(message);
  });

  it.each([
    ['no name', '{"agent":{}}'],
    ['no agent', '{}'],
    ['a list', '[]'],
  ])('refuses %s as the answer to selfName', async (_, reply) => {
    const error = await failureOf(connectSerf(stub(`echo '${reply}'`)).selfName());
    expect(error.message).toContain('malformed response');
  });
});

let stubs = 0;

/** A client whose `serf` is this shell script. */
function stub(script: string, timeoutSeconds = 10): SerfSettings {
  const command = join(dir, `serf-${stubs++}`);
  writeFileSync(command, `#!/bin/sh\n${script}\n`);
  chmodSync(command, 0o755);
  return { command, rpcAddress: '127.0.0.1:7373', rpcAuthFile: null, timeoutSeconds };
}

async function failureOf(action: Promise<unknown>): Promise<UpdateError> {
  const error: unknown = await action.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (error instanceof UpdateError) return error;
  throw new Error('it did not fail as it should', { cause: error });
}
