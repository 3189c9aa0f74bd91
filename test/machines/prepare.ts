/**
 * Boots a first machine, which shows whether that can be done here, and installs the dependencies of
 * p2p-update on it, unless a base is kept that has them. Started by main.ts in a sandbox.
 */
import { makeInstalled } from './base.ts';
import { CannotBeMade } from './cannot-be-made.ts';
import { Lab } from './lab.ts';
import { readPlaces } from './places.ts';

const { base, ...places } = readPlaces();
const lab = new Lab(places);
try {
  const probe = lab.make('probe', { lower: [places.bare] });
  try {
    await probe.boot();
  } catch (cause) {
    throw new CannotBeMade(`systemd does not start in namespaces: ${String(cause)}`, { cause });
  }
  await probe.cutPower();
  await makeInstalled(lab, base);
} catch (error) {
  if (!(error instanceof CannotBeMade)) throw error;
  console.error(`test:machines: ${error.message}`);
  process.exitCode = 77;
} finally {
  await lab.end();
}
