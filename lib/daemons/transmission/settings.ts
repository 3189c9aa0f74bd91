import type { TransmissionClient } from './client.ts';

/** Settings that a swarm of updates needs, as session-set names them; docs/transmission.md has the reasons. */
export const requiredSettings: Readonly<Record<string, string | boolean>> = {
  // rpcimpl.c: "tolerated" is `"encryption": 0` of settings.json, plain connections first.
  encryption: 'tolerated',
  'download-queue-enabled': false,
  'seed-queue-enabled': false,
  seedRatioLimited: false,
  'idle-seeding-limit-enabled': false,
  'dht-enabled': false,
  'pex-enabled': true,
  'lpd-enabled': true,
  // Transmission tries µTP first; where a firewall passes TCP alone that takes more than 30 s to fail.
  'utp-enabled': false,
};

const hookFields = ['script-torrent-done-enabled', 'script-torrent-done-filename'];

/**
 * Corrects the required settings over RPC. The completion hook is the operator's: a wrong one costs time
 * only, so it is reported and left alone.
 *
 * @param hooks absolute paths of which the hook should have one, the best one first; none: it does not matter
 * @returns warnings for a person
 * @throws UpdateError of the RPC
 */
export async function ensureSettings(
  transmission: TransmissionClient,
  hooks: readonly string[],
): Promise<string[]> {
  const names = Object.keys(requiredSettings);
  const isWrong = (session: Record<string, unknown>) => (name: string) =>
    session[name] !== requiredSettings[name];

  let session = await transmission.session([...names, ...hookFields]);
  const wrong = names.filter(isWrong(session));
  if (wrong.length > 0) {
    await transmission.setSession(
      Object.fromEntries(wrong.map((name) => [name, requiredSettings[name]])),
    );
    session = await transmission.session([...names, ...hookFields]);
  }
  const warnings = names
    .filter(isWrong(session))
    .map((name) => `Transmission keeps ${name} at ${JSON.stringify(session[name])}`);
  const [isEnabled, filename] = hookFields.map((name) => session[name]);
  const isOurs = isEnabled === true && hooks.some((hook) => hook === filename);
  if (hooks[0] !== undefined && !isOurs) {
    const current = isEnabled === true ? JSON.stringify(filename) : 'off';
    warnings.push(
      `Transmission's script-torrent-done is ${current}, not ${hooks[0]}: finished downloads are noticed late`,
    );
  }
  return warnings;
}
