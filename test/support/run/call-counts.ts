import { Session } from 'node:inspector/promises';

/**
 * Counts how often functions are called, as V8's own coverage counts them, so that the code needs no
 * counter for it.
 *
 * @param names of functions, each the only one of its name that `work` calls
 */
export async function countCalls<K extends string>(
  names: readonly K[],
  work: () => Promise<unknown>,
): Promise<Record<K, number>> {
  const session = new Session();
  session.connect();
  try {
    await session.post('Profiler.enable');
    await session.post('Profiler.startPreciseCoverage', { callCount: true, detailed: false });
    await work();
    const { result } = await session.post('Profiler.takePreciseCoverage');
    const counts = Object.fromEntries(names.map((name) => [name, 0])) as Record<K, number>;
    const isWanted = (name: string): name is K => (names as readonly string[]).includes(name);
    for (const { functionName, ranges } of result.flatMap(({ functions }) => functions))
      if (isWanted(functionName)) counts[functionName] += ranges[0]?.count ?? 0;
    return counts;
  } finally {
    session.disconnect();
  }
}
