import { maxClockLeadSeconds } from '../state/decide.ts';

/**
 * Tells the time of the fleet: the median of the clocks of nodes, by their own word, where fewer than three are
 * known together with this machine's. One member alone can change nothing.
 *
 * @param nowSeconds by this machine's clock
 */
export function fleetTime(clocks: readonly number[], nowSeconds: number): number {
  if (clocks.length < 2) return nowSeconds;
  const counted = clocks.length > 2 ? [...clocks] : [...clocks, nowSeconds];
  counted.sort((a, b) => a - b);
  return counted[Math.floor((counted.length - 1) / 2)] ?? nowSeconds;
}

/** Fault of a clock that nodes do not sign or accept by; '' for one that is near enough. */
export function clockFault(clock: number | undefined, fleetSeconds: number): string {
  const lead = (clock ?? fleetSeconds) - fleetSeconds;
  if (Math.abs(lead) <= maxClockLeadSeconds) return '';
  return `its clock is ${spanOf(Math.abs(lead))} ${lead > 0 ? 'ahead of' : 'behind'} the fleet's`;
}

function spanOf(seconds: number): string {
  const [size, unit] =
    seconds >= 172_800 ? [86_400, 'days'] : seconds >= 7200 ? [3600, 'hours'] : [60, 'minutes'];
  return `${Math.round(seconds / size)} ${unit}`;
}
