import { expect, it } from 'vitest';
import { type MachineFleet, submitAndWait, submitManifest, timed, waitForFile } from '../fleet.ts';

const mebibyte = 1 << 20;

export function kinds(fleet: () => MachineFleet): void {
  const everywhere = async (path: string, text?: string): Promise<void> => {
    for (const machine of fleet().nodes) await waitForFile(machine, path, text);
  };

  it('is a manifest, which Puppet applies on every node', async () => {
    const manifest = "file { '/root/manifest': content => 'applied' }\n";
    const sent = await submitManifest(fleet(), 'manifest', manifest, '--wait');
    expect(sent.answer).toMatchObject({ verdict: 'converged' });
    await everywhere('/root/manifest', 'applied');
  });

  it('is a module, which a manifest then uses', async () => {
    const { operator } = fleet();
    const metadata = {
      ...{ name: 'acme-greeting', version: '1.0.0', author: 'acme', license: 'Apache-2.0' },
      ...{ summary: 'greets', source: '', dependencies: [] },
    };
    const code = "class greeting { file { '/root/module': content => 'used' } }\n";
    await operator.write('/root/acme-greeting/metadata.json', JSON.stringify(metadata));
    await operator.write('/root/acme-greeting/manifests/init.pp', code);
    const archive = '/root/acme-greeting-1.0.0.tar.gz';
    await operator.mustRun(['tar', '-czf', archive, '-C', '/root', 'acme-greeting']);
    await submitAndWait(fleet(), archive);
    await submitManifest(fleet(), 'greet', 'include greeting\n', '--wait');
    await everywhere('/root/module', 'used');
  });

  it('is an environment with modules and data', async () => {
    const { operator } = fleet();
    const hiera = 'version: 5\nhierarchy:\n  - name: all\n    path: all.yaml\n';
    const code =
      'class web (Integer $port) { file { \'/root/environment\': content => "${port}" } }\n';
    await operator.write('/root/web/hiera.yaml', hiera);
    await operator.write('/root/web/data/all.yaml', 'web::port: 8080\n');
    await operator.write('/root/web/manifests/site.pp', 'include web\n');
    await operator.write('/root/web/modules/web/manifests/init.pp', code);
    await submitAndWait(fleet(), '--channel', 'web', '/root/web');
    await everywhere('/root/environment', '8080');
  });

  it('is a file of 1 MiB, which every node has byte for byte', async () => {
    const { operator, nodes } = fleet();
    await operator.mustRun(['sh', '-c', `head -c ${mebibyte} /dev/urandom >/root/image`]);
    await timed('mebibyteToAllSeconds', () =>
      submitAndWait(fleet(), '--channel', 'image', '/root/image'),
    );
    const sums = await Promise.all(
      nodes.map((machine) => machine.mustRun(['sha256sum', '/var/lib/p2p-update/files/image'])),
    );
    const [wanted = ''] = (await operator.mustRun(['sha256sum', '/root/image'])).split(' ');
    expect(new Set(sums.map((sum) => sum.split(' ')[0]))).toEqual(new Set([wanted]));
  });

  it('is a key set, after which the new key signs', async () => {
    const { operator } = fleet();
    const made = ['p2p-update', 'keygen', '--fleet', 'spare', '--out', '/root/spare'];
    await operator.mustRun(made);
    const root = ['--root-key', '/etc/p2p-update/keys/root.key'];
    await submitAndWait(fleet(), '/root/spare/release.pub', ...root);
    const config = await operator.read('/etc/p2p-update/config.json');
    const other = config?.replace('/etc/p2p-update/keys/release.key', '/root/spare/release.key');
    await operator.write('/root/spare/config.json', other ?? '');
    await operator.write('/root/signed.pp', "file { '/root/new-key': content => 'signed' }\n");
    const submitted = ['p2p-update', 'submit', '--wait', '--channel', 'new-key', '/root/signed.pp'];
    const variable = 'P2P_UPDATE_CONFIG=/root/spare/config.json';
    await operator.mustRun(['env', variable, ...submitted], { timeoutMs: 600_000 });
    await everywhere('/root/new-key', 'signed');
  });

  it('is a trial run, which changes nothing and says what would change', async () => {
    const manifest = "file { '/root/trial': content => 'never' }\n";
    const { stdout } = await submitManifest(fleet(), 'trial', manifest, '--noop');
    expect(stdout).toMatch(/\/root\/trial/);
    for (const machine of fleet().nodes) expect(await machine.exists('/root/trial')).toBe(false);
  });

  it('is a withdrawal, after which no node applies the update', async () => {
    const manifest = "file { '/root/withdrawn': content => 'never' }\n";
    await submitManifest(fleet(), 'withdrawn', manifest, '--not-before', '+10m');
    await submitAndWait(fleet(), '--withdraw', 'withdrawn');
    const asked = ['p2p-update', 'status', '--channel', 'withdrawn', '--all'];
    expect(await fleet().operator.mustRun(asked)).toMatch(
      /^node-3 .* WITHDRAWN .* nothing was applied$/m,
    );
  });
}
