import fc from 'fast-check';

/** One announcement, with the fields that the reference model decides by. */
export interface Announced {
  channel: string;
  version: number;
  kind: 'file' | 'manifest' | 'withdraw' | 'keyset';
  target: string;
  /** Whether the target includes this node. */
  isForUs: boolean;
  noop: boolean;
  rerun: boolean;
  content: string;
  /** The key set whose keys signed it; each set revokes the one before. */
  epoch: number;
  /** Unix seconds. */
  expires: number;
}

/** One thing that happens to the node or around it. */
export type Step =
  /** An event comes: an announcement by its index, or the key set. */
  | { do: 'deliver'; index: number; isClockWrong: boolean }
  | { do: 'deliver key set' }
  /** A pass of advance; Transmission goes down after so many calls. */
  | { do: 'advance'; callsLeft: number }
  /** Transmission completes what it has; its hook runs, or is lost. */
  | { do: 'download'; isHookLost: boolean }
  /** A pass of the apply side, killed after so many steps. */
  | { do: 'apply'; stepsLeft: number }
  /** Catch-up: the neighbours' announcements are delivered. */
  | { do: 'catch up' }
  | { do: 'wait'; seconds: number };

export interface History {
  /** In the order of their versions, across channels. */
  announced: Announced[];
  /** Whether the fleet changes its keys: announcements of epoch 2 are signed by those of key set 2. */
  hasSecondKeySet: boolean;
  steps: Step[];
}

/** The first second of every history; announcements expire that many seconds later. */
export const startedAt = 1_900_000_000;
/** The first is what a failure is shrunk to. */
const expiries = [100_000, 90];
const never = Number.MAX_SAFE_INTEGER;

const kind = fc.oneof(
  { weight: 8, arbitrary: fc.constant('file' as const) },
  { weight: 1, arbitrary: fc.constant('manifest' as const) },
  { weight: 1, arbitrary: fc.constant('noop' as const) },
  { weight: 1, arbitrary: fc.constant('withdraw' as const) },
);

const announced = fc.record({
  channel: fc.constantFrom('a', 'b'),
  kind,
  target: fc.constantFrom('', '', 'role=web', 'role=db'),
  rerun: fc.boolean(),
  content: fc.constantFrom('one', 'two'),
  epoch: fc.constantFrom(1, 2),
  seconds: fc.constantFrom(...expiries),
});

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 10,
    arbitrary: fc.record({
      do: fc.constant('deliver'),
      index: fc.nat(5),
      isClockWrong: fc.constantFrom(false, false, false, true),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('deliver key set') }) },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant('advance'),
      callsLeft: fc.oneof(fc.constant(never), fc.nat(5)),
    }),
  },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('download'), isHookLost: fc.boolean() }) },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant('apply'),
      stepsLeft: fc.oneof(fc.constant(never), fc.nat(3)),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('catch up') }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('wait'), seconds: fc.constant(60) }) },
);

/** Random histories, which shrink to short ones and print as a person would tell them. */
export const history: fc.Arbitrary<History> = fc
  .record({
    drawn: fc.array(announced, { minLength: 1, maxLength: 6 }),
    hasSecondKeySet: fc.boolean(),
    steps: fc.array(step, { maxLength: 24 }),
  })
  .map(({ drawn, hasSecondKeySet, steps }) => {
    const all = drawn.map((each, index): Announced => {
      const { channel, target, rerun, seconds } = each;
      const isNoop = each.kind === 'noop';
      const isWithdrawal = each.kind === 'withdraw';
      return {
        ...{ channel, target, noop: isNoop, rerun: rerun && !isNoop && !isWithdrawal },
        version: startedAt + index + 1,
        kind: each.kind === 'noop' ? 'manifest' : each.kind,
        isForUs: target !== 'role=db',
        content: isWithdrawal ? '' : each.content,
        epoch: hasSecondKeySet ? each.epoch : 1,
        expires: startedAt + seconds,
      };
    });
    const told = { announced: all, hasSecondKeySet, steps };
    return Object.assign(told, { [fc.toStringMethod]: () => tell(told) });
  });

/** A history in words; versions are counted from 1. */
export function tell({ announced: all, hasSecondKeySet, steps }: History): string {
  const facts = all.map((a) => `  ${nameOf(a)}: ${describe(a)}`);
  const events = steps.map((each, index) => `  ${index + 1}. ${tellStep(each, all)}`);
  if (hasSecondKeySet) facts.push('  key set 2, which revokes the keys of key set 1');
  return ['', 'announced in the fleet:', ...facts, 'on this node:', ...events, ''].join('\n');
}

export const nameOf = ({ channel, version }: Pick<Announced, 'channel' | 'version'>): string =>
  `${channel}@${channel === 'keyset' ? version : version - startedAt}`;

function describe(a: Announced): string {
  const words = [a.noop ? 'noop' : '', a.kind, a.content && `"${a.content}"`];
  const rest = [
    a.target === '' ? '' : `for ${a.target}`,
    a.rerun ? 'rerun' : '',
    a.expires - startedAt === expiries[1] ? `expires after ${expiries[1]} s` : '',
    a.epoch === 1 ? '' : 'signed by the keys of key set 2',
  ];
  return [words.filter(Boolean).join(' '), ...rest.filter(Boolean)].join(', ');
}

function tellStep(each: Step, all: readonly Announced[]): string {
  switch (each.do) {
    case 'deliver': {
      const announcement = all[each.index % all.length];
      const clock = each.isClockWrong ? ', while the clock is wrong' : '';
      return `deliver ${announcement === undefined ? 'nothing' : nameOf(announcement)}${clock}`;
    }
    case 'advance':
      return each.callsLeft === never
        ? 'advance'
        : `advance, Transmission down after ${each.callsLeft} calls`;
    case 'download':
      return each.isHookLost ? 'download, the hook is lost' : 'download';
    case 'apply':
      return each.stepsLeft === never ? 'apply' : `apply, killed after ${each.stepsLeft} steps`;
    case 'wait':
      return `${each.seconds} s pass`;
    case 'deliver key set':
    case 'catch up':
      return each.do;
  }
}
