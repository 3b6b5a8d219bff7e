/**
 * TensorBoard's messages: events with scalars, texts and pictures, as torch's SummaryWriter writes them.
 * Source: tensorboard 2.21, compat/proto (event, summary, tensor); torch 2.13, utils/tensorboard/summary.py.
 */
import { Message } from "../protobuf.ts";

/** One value of a step, under the name by which TensorBoard shows it. */
export type Summary =
  | { readonly kind: "scalar"; readonly tag: string; readonly value: number }
  /** Shown as Markdown. */
  | { readonly kind: "text"; readonly tag: string; readonly text: string }
  | { readonly kind: "picture"; readonly tag: string; readonly png: Uint8Array; readonly width: number; readonly height: number }; // biome-ignore format: one line a kind

export interface EventTime {
  readonly step: number;
  /** Seconds since 1970. */
  readonly wallTime: number;
}

const RGB = 3; // Summary.Image.colorspace
const DT_STRING = 7;
const SESSION_START = 1;
const VERSION = "brain.Event:2"; // at and after which a restart is told by a session's start, not by falling steps

/** What a file begins with. */
export const versionEvent = (wallTime: number): Uint8Array =>
  new Message().double(1, wallTime).string(3, VERSION).encode();

/** Says that a run begins anew at this step: TensorBoard drops what earlier files say of it and of later ones. */
export const restartEvent = (time: EventTime): Uint8Array =>
  eventAt(time).message(7, new Message().int(1, SESSION_START)).encode();

/** Several values of one step. */
export function summaryEvent(time: EventTime, summaries: readonly Summary[]): Uint8Array {
  const values = new Message();
  for (const summary of summaries) values.message(1, encoded(summary));
  return eventAt(time).message(5, values).encode();
}

/** Protobuf leaves zeros out. */
function eventAt({ step, wallTime }: EventTime): Message {
  const event = new Message().double(1, wallTime);
  return step === 0 ? event : event.int(2, step);
}

function encoded(summary: Summary): Message {
  switch (summary.kind) {
    case "scalar":
      return new Message().string(1, summary.tag).float(2, summary.value);
    case "picture":
      return new Message().string(1, summary.tag).message(4, imageOf(summary));
    case "text":
      return new Message()
        .string(1, `${summary.tag}/text_summary`)
        .message(8, stringTensor(summary.text))
        .message(9, new Message().message(1, new Message().string(1, "text")));
  }
}

const imageOf = ({ png, width, height }: Extract<Summary, { kind: "picture" }>): Message =>
  new Message().int(1, height).int(2, width).int(3, RGB).bytes(4, png);

/** A tensor of one text, shape [1]. */
const stringTensor = (text: string): Message =>
  new Message()
    .int(1, DT_STRING)
    .message(2, new Message().message(2, new Message().int(1, 1)))
    .string(8, text);
