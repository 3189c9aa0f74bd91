/** A machine of this kind cannot be made here; the message says why. */
export class CannotBeMade extends Error {
  override readonly name = 'CannotBeMade';
}
