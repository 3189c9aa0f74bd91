import type { SetupRequest } from './arguments.ts';

export function removeNode(_request: SetupRequest): void {
  throw new Error('not yet');
}
