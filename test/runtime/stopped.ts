// Stops an engine while the runtime computes in native code, as an error elsewhere in a run does.
import { startEngine } from "../../src/engine/start.ts";

const modelDir = "test/fixtures/tiny-qwen3vl/model";
const { remote, stop } = startEngine({ modelDir, device: { kind: "cpu" }, trainable: { kind: "none" } });
const side = 80;
const pixelValues = new Float32Array(side * side * 1536);
const picture = { grid: [1, side, side] as const, pixelValues };
await remote.encodePictures([{ grid: [1, 2, 2], pixelValues: new Float32Array(4 * 1536) }]); // the session is open now
const underWay = remote.encodePictures([picture]); // about a second
await new Promise((resolve) => setTimeout(resolve, 200));
await stop();
await underWay;
