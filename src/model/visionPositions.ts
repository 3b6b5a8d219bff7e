/** Where each patch of a picture stands: its blend of learned positions and its row and column. Source: transformers 5.18, vision_utils.py. */

/** For P patches in the order in which they are merged: blocks of merge x merge, row by row. */
export interface PatchPositions {
  readonly indices: Int32Array; // [P, 4] rows of the learned table
  readonly weights: Float32Array; // [P, 4]
  readonly rowsAndColumns: Int32Array; // [P, 2]
}

/** Two rows of a learned axis and how much of each is taken. */
type Neighbours = readonly [low: number, high: number, ofLow: number, ofHigh: number];

/** Bilinear neighbours of target `index` of `size` on a learned axis of `side`, corners aligned; every step rounded to float32 as in PyTorch. */
function neighbours(index: number, size: number, side: number): Neighbours {
  const source = Math.fround(Math.fround(index * (side - 1)) / Math.max(size - 1, 1));
  const low = Math.floor(source);
  const ofLow = Math.fround(1 - (source - low));
  return [low, Math.min(low + 1, side - 1), ofLow, Math.fround(1 - ofLow)];
}

/** @param grid [t, h, w] in patches; every frame t repeats the same positions  @param side of the learned table */
export function patchPositions(
  [frames, height, width]: readonly [number, number, number],
  mergeSize: number,
  side: number,
): PatchPositions {
  const count = frames * height * width;
  const indices = new Int32Array(count * 4);
  const weights = new Float32Array(count * 4);
  const rowsAndColumns = new Int32Array(count * 2);
  let patch = 0;
  const place = (row: number, column: number): void => {
    const [top, bottom, ofTop, ofBottom] = neighbours(row, height, side);
    const [left, right, ofLeft, ofRight] = neighbours(column, width, side);
    indices.set([top * side + left, top * side + right, bottom * side + left, bottom * side + right], patch * 4);
    weights.set([ofTop * ofLeft, ofTop * ofRight, ofBottom * ofLeft, ofBottom * ofRight], patch * 4);
    rowsAndColumns.set([row, column], patch * 2);
    patch += 1;
  };
  for (let frame = 0; frame < frames; frame++) forEachMerged(height, width, mergeSize, place);
  return { indices, weights, rowsAndColumns };
}

function forEachMerged(
  height: number,
  width: number,
  merge: number,
  visit: (row: number, column: number) => void,
): void {
  for (let top = 0; top < height; top += merge)
    for (let left = 0; left < width; left += merge)
      for (let row = top; row < top + merge; row++)
        for (let column = left; column < left + merge; column++) visit(row, column);
}
