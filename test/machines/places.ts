import { basePlaces } from './base.ts';
import type { Places } from './lab.ts';

const variable = 'P2P_MACHINES';

/** All places of a run. */
export interface RunPlaces extends Places {
  /** Directory of the base. */
  base: string;
  /** The package that is tested. */
  deb: string;
  /** File of the figures, one JSON object a line. */
  figures: string;
}

/** The places as a variable for programs in the sandbox. */
export function placesVariable(places: Omit<RunPlaces, keyof ReturnType<typeof basePlaces>>): {
  [variable]: string;
} {
  return { [variable]: JSON.stringify({ ...places, ...basePlaces(places.base) }) };
}

/** Reads the variable; throws where there is none. */
export function readPlaces(): RunPlaces {
  const text = process.env[variable];
  if (text === undefined) throw new Error('started by hand: npm run test:machines');
  return JSON.parse(text) as RunPlaces;
}
