import { parsePayload } from '../../lib/announcement/update.ts';
import { describeError, UpdateError } from '../../lib/errors.ts';
import { verifyOffer } from '../../lib/trust/verify.ts';
import { type Corpus, makeCorpus, type World } from './corpus.ts';
import { mutate, type Mutation, type Payload, unchanged } from './mutate.ts';
import { Random } from './random.ts';

/** Good ends of a run: refused with one of three codes, or a genuine payload accepted. */
export type Verdict = 'malformed' | 'untrusted' | 'try-later' | 'genuine';
/** Bad ends of a run. A genuine announcement refused is one too: then the fuzzer proves nothing. */
export type Fault = 'crash' | 'false accept' | 'false refusal';

export interface Judgement {
  mutation: Mutation;
  verdict: Verdict | Fault;
  payload: Buffer;
  /** The error thrown, if any. */
  detail: string;
}

export function isFault(verdict: Verdict | Fault): verdict is Fault {
  return verdict === 'crash' || verdict === 'false accept' || verdict === 'false refusal';
}

/** Makes the payload of each run and sends it through the handler's own parser and verifier. */
export class Judge {
  readonly #seed: number;
  readonly #corpus: Corpus;
  /** The first runs: each sample in each world. */
  readonly #first: { made: Payload; world: World }[];

  constructor(seed: number) {
    this.#seed = seed;
    this.#corpus = makeCorpus(seed);
    this.#first = this.#corpus.worlds.flatMap((world) =>
      unchanged(this.#corpus).map((made) => ({ made, world })),
    );
  }

  async run(index: number): Promise<Judgement> {
    const random = new Random(this.#seed, index);
    const { made, world } = this.#first[index] ?? {
      world: random.pick(this.#corpus.worlds),
      made: mutate(this.#corpus, random),
    };
    return { ...made, ...(await judge(made.payload, world)) };
  }
}

async function judge(
  payload: Buffer,
  { keySet, genuine }: World,
): Promise<Pick<Judgement, 'verdict' | 'detail'>> {
  const isGenuine = genuine.has(payload.toString('latin1'));
  let epoch = 0;
  try {
    const offer = await parsePayload(payload);
    if (offer.source === 'announcement') epoch = offer.signed.announcement.epoch;
    verifyOffer(offer, { allowUnsigned: false }, () => keySet);
    return { verdict: isGenuine ? 'genuine' : 'false accept', detail: '' };
  } catch (error) {
    const detail = describeError(error);
    const code = error instanceof UpdateError ? error.code : undefined;
    const isRefusal = code === 'malformed' || code === 'untrusted';
    if (!isRefusal && !(code === 'try-later' && epoch > keySet.epoch))
      return { verdict: 'crash', detail };
    return { verdict: isGenuine ? 'false refusal' : code, detail };
  }
}
