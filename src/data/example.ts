/** What a row of data becomes: a conversation, with its pictures found but not opened. */
import type { ImageSource } from "../vision/image.ts";

/** One conversation to learn from or to be asked. */
export interface Example {
  /** File and row it comes from, as in "train.jsonl:3". */
  readonly id: string;
  readonly user: string | null;
  readonly messages: readonly Message[];
  /** Function descriptions (JSON schema) offered to the assistant. */
  readonly tools?: readonly object[];
  /** What a grounding answer is scored against. */
  readonly target?: GroundingTarget;
  /** Steps of one episode belong together when users are split into folds. */
  readonly episode?: string;
}

export const ROLES = ["system", "user", "assistant", "tool"] as const;
export type Role = (typeof ROLES)[number];

export interface Message {
  readonly role: Role;
  readonly content: string | readonly ContentPart[];
  readonly tool_calls?: readonly object[];
  readonly reasoning_content?: string;
  /** false leaves an assistant turn untrained. */
  readonly train?: boolean;
}

export type ContentPart =
  | { readonly type: "text"; readonly text: string }
  | { readonly type: "image"; readonly image: ImageSource }
  | VideoPart;

/** A video as its frames, all of one size, `fps` of them a second. */
export interface VideoPart {
  readonly type: "video";
  readonly video: readonly ImageSource[];
  readonly fps: number;
}

export type VisualPart = Exclude<ContentPart, { readonly type: "text" }>;

export interface GroundingTarget {
  /** Click point, 0-1000 of the screen's width and height. */
  readonly point: readonly [x: number, y: number];
  /** Words for the element. */
  readonly content: string;
}

/** The pictures and videos of a conversation, in order. */
export const visualsOf = (messages: readonly Message[]): VisualPart[] =>
  messages.flatMap(({ content }) =>
    typeof content === "string" ? [] : content.filter((part) => part.type !== "text"),
  );

/** Every picture file of a conversation, the frames of videos among them, in order. */
export const imagesOf = (messages: readonly Message[]): ImageSource[] =>
  visualsOf(messages).flatMap((part) => (part.type === "image" ? [part.image] : part.video));
