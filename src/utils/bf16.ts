/** bfloat16 and float16 to float32 and back; Node 20 has neither array type, so both travel as Uint16Array. */

/** @param bits [n] bfloat16 bit patterns  @returns [n] the same numbers, exactly */
export function bf16ToFloat32(bits: Uint16Array): Float32Array {
  const words = new Uint32Array(bits.length);
  for (let i = 0; i < bits.length; i++) words[i] = (bits[i] as number) << 16;
  return new Float32Array(words.buffer);
}

/** @param values [n] float32  @returns [n] bfloat16 bit patterns, rounded to nearest even as PyTorch does; NaN stays NaN */
export function float32ToBf16(values: Float32Array): Uint16Array {
  const words = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const bits = new Uint16Array(values.length);
  for (let i = 0; i < words.length; i++) {
    const word = words[i] as number;
    const isNaNWord = (word & 0x7fffffff) > 0x7f800000;
    bits[i] = isNaNWord ? (word >>> 16) | 0x40 : (word + 0x7fff + ((word >>> 16) & 1)) >>> 16;
  }
  return bits;
}

/** @param bits [n] IEEE half-precision bit patterns  @returns [n] the same numbers, exactly */
export function float16ToFloat32(bits: Uint16Array): Float32Array {
  const values = new Float32Array(bits.length);
  for (let i = 0; i < bits.length; i++) values[i] = halfToNumber(bits[i] as number);
  return values;
}

function halfToNumber(half: number): number {
  const sign = half & 0x8000 ? -1 : 1;
  const exponent = (half >>> 10) & 0x1f;
  const fraction = half & 0x3ff;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

const scratch = new Float32Array(1);
const scratchWord = new Uint32Array(scratch.buffer);

/** @param values [n] float32  @returns [n] half-precision bit patterns, rounded to nearest even; too large becomes infinity */
export function float32ToFloat16(values: Float32Array): Uint16Array {
  const bits = new Uint16Array(values.length);
  for (let i = 0; i < values.length; i++) bits[i] = numberToHalf(values[i] as number);
  return bits;
}

function numberToHalf(value: number): number {
  scratch[0] = value;
  const sign = ((scratchWord[0] as number) >>> 16) & 0x8000;
  const size = Math.abs(value);
  if (Number.isNaN(value)) return 0x7e00;
  if (size >= 65520) return sign | 0x7c00;
  if (size < 2 ** -14) return sign | roundHalfEven(size * 2 ** 24); // subnormals; 1024 of them is the least normal
  const exponent = Math.floor(Math.log2(size));
  const scaled = roundHalfEven((size / 2 ** exponent) * 1024); // 1024 .. 2048
  return sign | ((exponent + 15) * 1024 + (scaled - 1024));
}

/** Rounds to the nearest integer, ties to the even one, as Python's `round` and IEEE arithmetic do. */
export function roundHalfEven(value: number): number {
  const below = Math.floor(value);
  const rest = value - below;
  if (rest !== 0.5) return Math.round(value);
  return below % 2 === 0 ? below : below + 1;
}
