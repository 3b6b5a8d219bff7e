/** The words of the grounding task: how a command is asked and how its answer is written. */

/** The question about one screenshot. Its example holds a grounding block, so only generated text may be parsed. */
export const groundingPrompt = (command: string): string => `\
Given a GUI image, what are the relative (0-1000) pixel point coordinates for the element corresponding to the following instruction: ${command}

Think step-by-step, provide referring for the element first and then the grounded point coordinates.

### Output (Example)
\`\`\`referring
"left arrow"
\`\`\`
\`\`\`grounding
(100, 200)
\`\`\``;

const [BEFORE = "", AFTER = ""] = groundingPrompt("\0").split("\0");

/** The inverse of `groundingPrompt`. @returns null for other texts */
export const commandOf = (prompt: string): string | null =>
  prompt.startsWith(BEFORE) && prompt.endsWith(AFTER) ? prompt.slice(BEFORE.length, -AFTER.length) : null;

/** @param point [x, y] whole numbers, 0-1000 of the screen's width and height */
export const groundingAnswer = (content: string, [x, y]: readonly [x: number, y: number]): string => `\
\`\`\`referring
${content}
\`\`\`
\`\`\`grounding
[${x}, ${y}]
\`\`\``;

const ANSWER =
  /^\s*```referring\n(.*?)\n```\s*```grounding\n\s*(?:[[(]\s*)?(\d{1,4})\s*,\s*(\d{1,4})\s*(?:[\])]\s*)?\n```\s*$/s;

/**
 * The inverse of `groundingAnswer`, for answers in data: round or square brackets, or none. Deliberately narrow: what a data
 * set means by anything else is not guessed.
 * @returns null for other texts, and for points outside of 0-1000
 */
export function readGroundingAnswer(
  answer: string,
): { readonly content: string; readonly point: readonly [x: number, y: number] } | null {
  const [, content, x, y] = ANSWER.exec(answer) ?? [];
  if (content === undefined || Number(x) > 1000 || Number(y) > 1000) return null;
  return { content, point: [Number(x), Number(y)] };
}
