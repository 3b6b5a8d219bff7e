/**
 * Adafactor without momentum: of the squares of a matrix's gradient only the means of its rows and columns are remembered.
 * A step passes over the gradient three times, in runs of a bounded number of elements: the means, the size of the update
 * (which is clipped as a whole), the update.
 * Source: transformers 5.18, optimization.py, Adafactor, as the Trainer's `--optim adafactor` sets it: scale_parameter and
 * relative_step False, clip_threshold 1, decay_rate -0.8, eps (1e-30, 1e-3).  Golden: test/fixtures/train/adafactor.json
 */
import { builderOf } from "../graph/builder.ts";
import { Graph, type Value } from "../graph/graph.ts";
import { encodeOnnx } from "../graph/onnx.ts";
import type { Device } from "../runtime/device.ts";
import { openSession, type Session } from "../runtime/session.ts";
import { floats, type HostTensor } from "../runtime/tensor.ts";
import { required } from "../utils/errors.ts";
import { type Layout, rangeOf, type Slot } from "./layout.ts";
import type { MomentGroup, Moments } from "./moments.ts";
import type { Flats, Optimizer, UpdateOf } from "./optimizer.ts";

const EPSILON = 1e-30;
const DECAY_RATE = -0.8;
const CLIP_THRESHOLD = 1;

/** Matrices [L, R, C] of a piece, in all graphs: gradient, times gradient_scale. */
function scaledGradient(graph: Graph): Value {
  const gradient = graph.input("gradient", "float32", ["L", "R", "C"]);
  return builderOf(graph).mul(gradient, graph.input("gradient_scale", "float32", []));
}

/** The gradient divided by the root of its mean square, as rows and columns tell it. [L, R, C] */
function direction(graph: Graph): Value {
  const ops = builderOf(graph);
  const rows = graph.input("row_factor", "float32", ["L", "R", 1]);
  const columns = graph.input("column_factor", "float32", ["L", 1, "C"]);
  return ops.mul(ops.mul(rows, columns), scaledGradient(graph));
}

/** The graphs of a step, in the order in which they run. */
export function adafactorGraphs() {
  const means = new Graph("optimizer_means");
  const ops = builderOf(means);
  const g = scaledGradient(means);
  const squares = ops.add(ops.mul(g, g), ops.scalar(EPSILON));
  means.output("row_means", ops.reduceMean(squares, [2])); // [L, R]
  means.output("column_sums", ops.reduceSum(squares, [1])); // [L, C]

  const size = new Graph("optimizer_size");
  const u = direction(size);
  size.output("square_sums", builderOf(size).reduceSum(builderOf(size).mul(u, u), [2])); // [L, R]

  const update = new Graph("optimizer_model");
  const parameter = update.input("parameter", "float32", ["L", "R", "C"]);
  const [decay, step] = ["decay_factor", "step_size"].map((name) => update.input(name, "float32", [])) as [
    Value,
    Value,
  ];
  const change = builderOf(update);
  const moved = change.sub(change.mul(parameter, decay), change.mul(direction(update), step));
  update.output("parameter_out", moved);
  return { means, size, update };
}

/** [lead, rows, columns] at `start` of the flat vectors, with what is remembered of it. */
interface Matrix {
  readonly slot: Slot;
  readonly lead: number;
  readonly rows: number;
  readonly columns: number;
  /** [lead, rows] */
  readonly rowMeans: Float32Array;
  /** [lead, columns] */
  readonly columnMeans: Float32Array;
}

/** Biases and norms: [n], with the mean square of each element. */
interface Vector {
  readonly slot: Slot;
  readonly squares: Float32Array;
}

type Sessions = { readonly [name in keyof ReturnType<typeof adafactorGraphs>]: Session };

export class Adafactor implements Optimizer {
  readonly #layout: Layout;
  readonly #device: Device;
  readonly #matrices: readonly Matrix[];
  readonly #vectors: readonly Vector[];
  #sessions: Promise<Sessions> | null = null;

  constructor(layout: Layout, device: Device) {
    this.#layout = layout;
    this.#device = device;
    this.#matrices = layout.slots.filter(({ shape }) => shape.length >= 2).map(matrixOf);
    this.#vectors = layout.slots
      .filter(({ shape }) => shape.length < 2)
      .map((slot) => ({ slot, squares: new Float32Array(slot.end - slot.start) }));
  }

  moments(): Moments {
    const groups: [MomentGroup, Map<string, Float32Array>][] = [
      ["exp_avg_sq_row", new Map(this.#matrices.map(({ slot, rowMeans }) => [slot.name, rowMeans]))],
      ["exp_avg_sq_col", new Map(this.#matrices.map(({ slot, columnMeans }) => [slot.name, columnMeans]))],
      ["exp_avg_sq", new Map(this.#vectors.map(({ slot, squares }) => [slot.name, squares]))],
    ];
    return new Map(groups.filter(([, arrays]) => arrays.size > 0));
  }

  async update({ values, gradients }: Flats, updateOf: UpdateOf): Promise<void> {
    const sessions = await this.#open();
    for (const matrix of this.#matrices) {
      const { slot } = matrix;
      await updateMatrix(sessions, { ...matrix, values, gradients }, updateOf(rangeOf(this.#layout, slot)));
    }
    for (const vector of this.#vectors)
      updateVector({ ...vector, values, gradients }, updateOf(rangeOf(this.#layout, vector.slot)));
  }

  async release(): Promise<void> {
    const sessions = await this.#sessions;
    this.#sessions = null;
    for (const session of Object.values(sessions ?? {})) await session.release();
  }

  #open(): Promise<Sessions> {
    const open = (graph: Graph): Promise<Session> => openSession(encodeOnnx(graph), { device: this.#device });
    const openAll = async (): Promise<Sessions> => {
      const { means, size, update } = adafactorGraphs();
      return { means: await open(means), size: await open(size), update: await open(update) };
    };
    this.#sessions ??= openAll();
    return this.#sessions;
  }
}

function matrixOf(slot: Slot): Matrix {
  const [rows = 1, columns = 1] = slot.shape.slice(-2);
  const lead = (slot.end - slot.start) / (rows * columns);
  const [rowMeans, columnMeans] = [new Float32Array(lead * rows), new Float32Array(lead * columns)];
  return { slot, lead, rows, columns, rowMeans, columnMeans };
}

/** Several matrices [count, rows, C] of a parameter, or some rows of one. */
interface Piece {
  /** Of the flat vectors. */
  readonly start: number;
  readonly end: number;
  readonly dims: readonly [count: number, rows: number, columns: number];
  /** The first matrix, and the first row of all. */
  readonly matrix: number;
  readonly row: number;
}

/** Elements: what a run works with stays in the processor's cache, and is still enough for all cores. */
const MOST_IN_A_RUN = 1 << 17;

function* piecesOf({ slot, lead, rows, columns }: Matrix): Generator<Piece> {
  const rowsAtOnce = Math.max(1, Math.floor(MOST_IN_A_RUN / columns));
  if (lead > 1 || rowsAtOnce >= rows) {
    const atOnce = Math.max(1, Math.floor(rowsAtOnce / rows));
    for (let matrix = 0; matrix < lead; matrix += atOnce) {
      const dims = [Math.min(atOnce, lead - matrix), rows, columns] as const;
      yield pieceAt(slot.start + matrix * rows * columns, dims, matrix, matrix * rows);
    }
  } else
    for (let row = 0; row < rows; row += rowsAtOnce)
      yield pieceAt(slot.start + row * columns, [1, Math.min(rowsAtOnce, rows - row), columns], 0, row);
}

const pieceAt = (start: number, dims: Piece["dims"], matrix: number, row: number): Piece => {
  return { start, end: start + dims[0] * dims[1] * dims[2], dims, matrix, row };
};

type Under = Matrix & Flats;
type Change = ReturnType<UpdateOf>;

async function updateMatrix(sessions: Sessions, matrix: Under, change: Change): Promise<void> {
  const { learningRate, weightDecay, gradientScale } = change;
  const scale = scalar(gradientScale);
  await remember(sessions.means, matrix, { scale, decay: decayOf(change) });
  const factors = factorsOf(matrix);
  let squares = 0;
  for (const piece of piecesOf(matrix)) {
    const out = await sessions.size.run({ ...factorFeeds(matrix, factors, piece), gradient_scale: scale });
    squares += sum(required(out.square_sums, "square_sums").data as Float32Array);
  }
  const stepSize = scalar(learningRate / clipping(squares, matrix.slot));
  const scalars = { gradient_scale: scale, step_size: stepSize, decay_factor: scalar(1 - weightDecay * learningRate) };
  for (const piece of piecesOf(matrix)) {
    const parameter = floats(matrix.values.subarray(piece.start, piece.end), piece.dims);
    await sessions.update.runInto(
      { ...factorFeeds(matrix, factors, piece), ...scalars, parameter },
      { parameter_out: parameter }, // in place: each element of it is read once, to make its successor
    );
  }
}

const scalar = (value: number): HostTensor => floats(Float32Array.of(value), []);

const decayOf = ({ step }: Change): number => 1 - step ** DECAY_RATE;

/** What the update is divided by: its root mean square, where that is above the threshold. */
const clipping = (squares: number, { start, end }: Slot): number =>
  Math.max(1, Math.sqrt(squares / (end - start)) / CLIP_THRESHOLD);

/** Moves the remembered means of rows and columns towards those of this gradient. */
async function remember(
  session: Session,
  matrix: Under,
  { scale, decay }: { readonly scale: HostTensor; readonly decay: number },
): Promise<void> {
  const { columns, rows, rowMeans, columnMeans } = matrix;
  const columnSums = new Float64Array(columnMeans.length);
  for (const piece of piecesOf(matrix)) {
    const out = await session.run({ gradient: gradientOf(matrix, piece), gradient_scale: scale });
    const [means, sums] = [out.row_means, out.column_sums].map((part) => required(part, "sums").data as Float32Array);
    means?.forEach((mean, i) => {
      rowMeans[piece.row + i] = moved(rowMeans[piece.row + i] as number, mean, decay);
    });
    sums?.forEach((part, i) => {
      const at = piece.matrix * columns + i;
      columnSums[at] = (columnSums[at] as number) + part;
    });
  }
  for (const [i, part] of columnSums.entries()) columnMeans[i] = moved(columnMeans[i] as number, part / rows, decay);
}

const moved = (old: number, now: number, decay: number): number => Math.fround(old * decay) + (1 - decay) * now;

const gradientOf = ({ gradients }: Flats, { start, end, dims }: Piece): HostTensor =>
  floats(new Float32Array(gradients.subarray(start, end)), dims);

interface Factors {
  /** [lead, rows] */
  readonly rows: Float32Array;
  /** [lead, columns] */
  readonly columns: Float32Array;
}

/** One over the roots of the means; those of rows are taken as shares of their own mean. */
function factorsOf({ lead, rows, rowMeans, columnMeans }: Matrix): Factors {
  const rowFactors = new Float32Array(rowMeans.length);
  for (let matrix = 0; matrix < lead; matrix++) {
    const own = rowMeans.subarray(matrix * rows, (matrix + 1) * rows);
    const mean = sum(own) / rows;
    for (const [i, value] of own.entries()) rowFactors[matrix * rows + i] = 1 / Math.sqrt(value / mean);
  }
  return { rows: rowFactors, columns: columnMeans.map((value) => 1 / Math.sqrt(value)) };
}

function sum(values: Float32Array): number {
  let total = 0;
  for (let i = 0; i < values.length; i++) total += values[i] as number;
  return total;
}

function factorFeeds(matrix: Under, factors: Factors, piece: Piece): Readonly<Record<string, HostTensor>> {
  const [count, rows, columns] = piece.dims;
  const ofRows = factors.rows.subarray(piece.row, piece.row + count * rows);
  const ofColumns = factors.columns.subarray(piece.matrix * columns, (piece.matrix + count) * columns);
  return {
    gradient: gradientOf(matrix, piece),
    row_factor: floats(ofRows, [count, rows, 1]),
    column_factor: floats(ofColumns, [count, 1, columns]),
  };
}

/** Biases and norms are few numbers: on the host, in double, rounded where torch keeps float32. */
function updateVector({ slot, squares, values, gradients }: Vector & Flats, change: Change): void {
  const { learningRate, weightDecay, gradientScale } = change;
  const decay = decayOf(change);
  const directions = new Float32Array(squares.length);
  let size = 0;
  for (const [i, square] of squares.entries()) {
    const g = Math.fround((gradients[slot.start + i] as number) * gradientScale);
    squares[i] = moved(square, g * g + EPSILON, decay);
    const u = g / Math.sqrt(squares[i] as number);
    directions[i] = u;
    size += u * u;
  }
  const step = learningRate / clipping(size, slot);
  for (const [i, u] of directions.entries()) {
    const at = slot.start + i;
    values[at] = Math.fround((values[at] as number) * (1 - weightDecay * learningRate)) - step * u;
  }
}
