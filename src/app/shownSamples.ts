/** Samples as TensorBoard shows them: the screen with the point that was meant and the one that was answered, and the conversation. */
import { join } from "node:path";
import sharp from "sharp";
import { type Example, imagesOf, type Message } from "../data/example.ts";
import type { Answer } from "../eval/results.ts";
import { readJsonObject } from "../utils/json.ts";
import { spread } from "../utils/spread.ts";
import type { Summary } from "../utils/tensorBoard/event.ts";
import { thumbnail } from "../vision/thumbnail.ts";

const SHOWN = 4;
const SIDE = 400;

/** Settings and model as transformers tells them, and a few samples that are trained on. */
export async function introduction(
  train: readonly Example[],
  { settings, modelDir }: { readonly settings: object; readonly modelDir: string },
): Promise<Summary[]> {
  const model = readJsonObject(join(modelDir, "config.json"), "it describes the model");
  const texts = Object.entries({ args: settings, model_config: model }).map(
    ([tag, value]): Summary => ({ kind: "text", tag, text: indented(JSON.stringify(value, null, 2)) }),
  );
  const samples = spread(train, SHOWN).map((example, i) => shownSample(`samples/${i + 1}`, example, null));
  return [...texts, ...(await Promise.all(samples)).flat()];
}

/** A few validation samples with the answers to them. @param answers one for each example */
export async function answersShown(examples: readonly Example[], answers: readonly Answer[]): Promise<Summary[]> {
  const pairs = examples.map((example, i) => ({ example, answer: answers[i] ?? null }));
  const shown = spread(pairs, SHOWN).map(({ example, answer }, i) => shownSample(`answers/${i + 1}`, example, answer));
  return (await Promise.all(shown)).flat();
}

async function shownSample(tag: string, example: Example, answer: Answer | null): Promise<Summary[]> {
  const text = conversation(example, answer);
  const source = imagesOf(example.messages).at(-1); // a click point belongs to the last picture
  if (source === undefined) return [{ kind: "text", tag, text }];
  const { jpeg } = await thumbnail(source, SIDE);
  const { data, info } = await marked(jpeg, example.target?.point ?? null, answer?.pred_coord ?? null);
  return [
    { kind: "text", tag, text },
    { kind: "picture", tag, png: data, width: info.width, height: info.height },
  ];
}

type Point = readonly number[] | null;

/** A green ring where the click belongs, a red cross where the model would click. Points are in 0-1000 of the picture. */
async function marked(jpeg: Uint8Array, target: Point, answered: Point) {
  const picture = sharp(jpeg);
  const { width, height } = await picture.metadata();
  const at = ([x = 0, y = 0]: readonly number[]) => ({ x: (x / 1000) * width, y: (y / 1000) * height });
  const size = Math.max(4, 0.022 * Math.max(width, height));
  const ring = target && at(target);
  const cross = answered && at(answered);
  const marks = [
    ring && `<circle cx="${ring.x}" cy="${ring.y}" r="${size}" fill="none" stroke="#0a0" stroke-width="3"/>`,
    cross &&
      `<path d="M${cross.x - size} ${cross.y - size}l${2 * size} ${2 * size}m0-${2 * size}l-${2 * size} ${2 * size}" fill="none" stroke="#d00" stroke-width="3"/>`,
  ].filter((mark) => mark !== null);
  const overlay = Buffer.from(
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}">${marks.join("")}</svg>`,
  );
  return picture
    .composite([{ input: overlay, top: 0, left: 0 }])
    .png({ palette: true })
    .toBuffer({ resolveWithObject: true });
}

/** Markdown: what was said stands as it is, whatever signs are in it. */
function conversation({ id, messages }: Example, answer: Answer | null): string {
  const turns = messages.map((message) => `**${message.role}**\n\n${indented(saidIn(message))}`);
  const answered = answer ? [`**the model's answer**\n\n${indented(answer.pred_raw)}`] : [];
  return [id.replace(/[\\`*_{}[\]<>#|]/g, "\\$&"), ...turns, ...answered].join("\n\n");
}

const saidIn = ({ content }: Message): string =>
  typeof content === "string"
    ? content
    : content.map((part) => (part.type === "text" ? part.text : `(${part.type})`)).join("\n");

/** As a block of code. */
const indented = (text: string): string =>
  text
    .split("\n")
    .map((line) => `    ${line}`)
    .join("\n");
