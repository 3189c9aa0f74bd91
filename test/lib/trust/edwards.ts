/**
 * The part of RFC 8032, section 5.1, that makes hostile points and signatures from the definition,
 * and not from the table that is under test.
 */

const p = 2n ** 255n - 19n;
const d = mod(-121665n * power(121666n, p - 2n));

/** The order of the base point. */
export const groupOrder = 2n ** 252n + 27742317777372353535851937790883648493n;

interface Point {
  x: bigint;
  y: bigint;
  z: bigint;
  t: bigint;
}

/** Affine y and the sign of x of the eight points whose order divides 8. */
export function smallOrderPoints(): { x: bigint; y: bigint }[] {
  // The torsion part of a random point has the full order 8 with a probability of one half.
  for (let y = 2n; ; y += 1n) {
    const point = pointWithY(y);
    const torsion = point && multiply(point, groupOrder);
    if (torsion === undefined || isIdentity(multiply(torsion, 4n))) continue;
    return [1n, 2n, 3n, 4n, 5n, 6n, 7n, 8n].map((k) => affine(multiply(torsion, k)));
  }
}

/** A key plus each of the seven points of small order but the neutral one: keys of mixed order. */
export function mixedOrderKeys(raw: Uint8Array): Buffer[] {
  const encoded = fromLittleEndian(raw);
  const sign = encoded >> 255n;
  const point = pointWithY(encoded & (2n ** 255n - 1n));
  if (point === undefined) throw new Error('not a point of the curve');
  const x = (point.x & 1n) === sign ? point.x : mod(-point.x);
  const key = { ...point, x, t: mod(x * point.y) };
  return smallOrderPoints()
    .filter(({ x, y }) => x !== 0n || y !== 1n)
    .map(({ x, y }) => affine(add(key, { x, y, z: 1n, t: mod(x * y) })))
    .map(({ x, y }) => encodePoint(y, x & 1n));
}

/** The 32 bytes for a y of up to 255 bits and a sign bit, canonical or not. */
export function encodePoint(y: bigint, sign: bigint): Buffer {
  return littleEndian(y | (sign << 255n));
}

export function littleEndian(value: bigint): Buffer {
  return Buffer.from(value.toString(16).padStart(64, '0'), 'hex').reverse();
}

export function fromLittleEndian(bytes: Uint8Array): bigint {
  return BigInt(`0x${Buffer.from(bytes).reverse().toString('hex')}`);
}

function pointWithY(y: bigint): Point | undefined {
  const square = mod((y * y - 1n) * power(mod(d * y * y + 1n), p - 2n));
  const root = power(square, (p + 3n) / 8n);
  const x = [root, mod(root * power(2n, (p - 1n) / 4n))].find((r) => mod(r * r) === square);
  return x === undefined ? undefined : { x, y, z: 1n, t: mod(x * y) };
}

function add(a: Point, b: Point): Point {
  const m = (a.y - a.x) * (b.y - b.x);
  const n = (a.y + a.x) * (b.y + b.x);
  const s = 2n * d * a.t * b.t;
  const w = 2n * a.z * b.z;
  const [e, f, g, h] = [n - m, w - s, w + s, n + m];
  return { x: mod(e * f), y: mod(g * h), z: mod(f * g), t: mod(e * h) };
}

function multiply(point: Point, factor: bigint): Point {
  let result: Point = { x: 0n, y: 1n, z: 1n, t: 0n };
  for (const bit of factor.toString(2)) {
    result = add(result, result);
    if (bit === '1') result = add(result, point);
  }
  return result;
}

function affine({ x, y, z }: Point): { x: bigint; y: bigint } {
  const inverse = power(z, p - 2n);
  return { x: mod(x * inverse), y: mod(y * inverse) };
}

function isIdentity(point: Point): boolean {
  const { x, y } = affine(point);
  return x === 0n && y === 1n;
}

function mod(value: bigint): bigint {
  const rest = value % p;
  return rest < 0n ? rest + p : rest;
}

function power(base: bigint, exponent: bigint): bigint {
  let result = 1n;
  for (const bit of exponent.toString(2)) {
    result = mod(result * result);
    if (bit === '1') result = mod(result * base);
  }
  return result;
}
