import { afterAll, beforeAll, beforeEach, describe } from 'vitest';
import { type MachineFleet, restore, setUpFleet } from './fleet.ts';
import { byHand } from './scenarios/by-hand.ts';
import { interruptions } from './scenarios/interruptions.ts';
import { kinds } from './scenarios/kinds.ts';
import { newcomers } from './scenarios/newcomers.ts';
import { removal } from './scenarios/removal.ts';
import { setUp } from './scenarios/set-up.ts';
import { trouble } from './scenarios/trouble.ts';
import { units } from './scenarios/units.ts';
import { upgrades } from './scenarios/upgrades.ts';

/** Lines of each machine's journal that are shown after a failure. */
const shownLines = '80';

/** One fleet goes through all of it, in this order; each scenario leaves it sound. */
describe('a fleet of machines', () => {
  let fleet: MachineFleet;
  beforeAll(async () => {
    fleet = await setUpFleet();
  });
  afterAll(async () => {
    await fleet.lab.end();
  });
  beforeEach(({ onTestFailed }) => {
    onTestFailed(async () => {
      for (const machine of fleet.nodes.filter(({ isUp }) => isUp)) {
        const text = await machine.journal('--lines', shownLines);
        console.error(`──── ${machine.name}\n${text}`);
      }
      await restore(fleet);
    });
  });

  describe('set-up', () => {
    setUp(() => fleet);
  });
  describe('every kind of update', () => {
    kinds(() => fleet);
  });
  describe('the units', () => {
    units(() => fleet);
  });
  describe('an interruption', () => {
    interruptions(() => fleet);
  });
  describe('an upgrade of the package', () => {
    upgrades(() => fleet);
  });
  describe('trouble', () => {
    trouble(() => fleet);
  });
  describe('a newcomer', () => {
    newcomers(() => fleet);
  });
  describe('the guide', () => {
    byHand(() => fleet);
  });
  describe('removal', () => {
    removal(() => fleet);
  });
});
