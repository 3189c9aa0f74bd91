import { isFault, Judge, type Fault } from './judge.ts';
import type { Mutation } from './mutate.ts';

/** Request to a worker: runs `from` to `to` - 1. */
export interface Batch {
  from: number;
  to: number;
}

/** Response of a worker. */
export interface BatchResult {
  /** Number of runs of each mutation with each verdict, by `mutation/verdict`. */
  counts: Record<string, number>;
  findings: Finding[];
}

export interface Finding {
  index: number;
  mutation: Mutation;
  fault: Fault;
  /** The error thrown, if any. */
  detail: string;
  /** In base64. */
  payload: string;
}

// A stack for each of so many refusals is the second highest cost; --index shows the error thrown.
Error.stackTraceLimit = 0;

const judge = new Judge(Number(process.argv[2]));

process.on('message', (batch: Batch) => {
  void runBatch(batch).then((result) => {
    process.send?.(result);
  });
});

async function runBatch({ from, to }: Batch): Promise<BatchResult> {
  const result: BatchResult = { counts: {}, findings: [] };
  for (let index = from; index < to; index += 1) {
    const { mutation, verdict, detail, payload } = await judge.run(index);
    const key = `${mutation}/${verdict}`;
    result.counts[key] = (result.counts[key] ?? 0) + 1;
    if (isFault(verdict)) {
      const text = payload.toString('base64');
      result.findings.push({ index, mutation, fault: verdict, detail, payload: text });
    }
  }
  return result;
}
