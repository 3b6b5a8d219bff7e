/** Text files, whole or line by line; text that is not UTF-8 is refused rather than repaired. */
import { createReadStream } from "node:fs";
import { readFile, stat } from "node:fs/promises";
import { UserError } from "../utils/errors.ts";

const NEWLINE = 10;

/** Of one text: JavaScript's texts end at 2^29 characters. */
export const MAX_TEXT_BYTES = 2 ** 29 - 2 ** 20;

/** The whole text, without a byte order mark. @throws UserError naming the file when it is too large or not UTF-8 */
export async function readUtf8(file: string): Promise<string> {
  const { size } = await stat(file);
  if (size > MAX_TEXT_BYTES)
    throw new UserError(`${file}: ${size} bytes, at most ${MAX_TEXT_BYTES} are read as one text; split the file`);
  return decodedText(await readFile(file), file);
}

/** The text without a byte order mark. @throws UserError when it is not UTF-8 */
export function decodedText(bytes: Uint8Array, where: string): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new UserError(`${where}: not UTF-8 text; save the file as UTF-8`, { cause });
  }
}

/**
 * Yields lines without their newline. (node:readline is of no use here: it also cuts at U+2028, which JSON may hold.)
 * @throws UserError naming file and line where the text is too long or not UTF-8
 */
export async function* linesOf(file: string): AsyncGenerator<{ text: string; line: number }> {
  let line = 0;
  const decoded = (bytes: Buffer) => ({ text: decodedText(bytes, `${file}, line ${++line}`), line });
  let parts: Buffer[] = [];
  let length = 0;
  for await (const chunk of createReadStream(file) as AsyncIterable<Buffer>) {
    let from = 0;
    for (let end = chunk.indexOf(NEWLINE); end >= 0; end = chunk.indexOf(NEWLINE, from)) {
      yield decoded(Buffer.concat([...parts, chunk.subarray(from, end)]));
      parts = [];
      length = 0;
      from = end + 1;
    }
    if (from < chunk.length) parts.push(chunk.subarray(from));
    length += chunk.length - from;
    if (length > MAX_TEXT_BYTES)
      throw new UserError(`${file}, line ${line + 1}: longer than ${MAX_TEXT_BYTES} bytes; write pictures as files`);
  }
  if (parts.length > 0) yield decoded(Buffer.concat(parts));
}
