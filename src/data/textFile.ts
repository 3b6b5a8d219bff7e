/** Text files, whole or line by line; text that is not UTF-8 is refused rather than repaired. */
import { createReadStream } from "node:fs";
import { readFile } from "node:fs/promises";
import { UserError } from "../utils/errors.ts";

const NEWLINE = 10;

/** The whole text, without a byte order mark. @throws UserError naming the file when it is not UTF-8 */
export async function readUtf8(file: string): Promise<string> {
  const bytes = await readFile(file);
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new UserError(`${file}: not UTF-8 text; save the file as UTF-8`, { cause });
  }
}

/**
 * Yields lines without their newline. (node:readline is of no use here: it also cuts at U+2028, which JSON may hold.)
 * @throws UserError naming file and line where the text is not UTF-8
 */
export async function* linesOf(file: string): AsyncGenerator<{ text: string; line: number }> {
  const decoder = new TextDecoder("utf-8", { fatal: true }); // drops a byte order mark
  let line = 0;
  const decoded = (bytes: Buffer) => {
    line++;
    try {
      return { text: decoder.decode(bytes), line };
    } catch (cause) {
      throw new UserError(`${file}, line ${line}: not UTF-8 text; save the file as UTF-8`, { cause });
    }
  };
  let parts: Buffer[] = [];
  for await (const chunk of createReadStream(file) as AsyncIterable<Buffer>) {
    let from = 0;
    for (let end = chunk.indexOf(NEWLINE); end >= 0; end = chunk.indexOf(NEWLINE, from)) {
      yield decoded(Buffer.concat([...parts, chunk.subarray(from, end)]));
      parts = [];
      from = end + 1;
    }
    if (from < chunk.length) parts.push(chunk.subarray(from));
  }
  if (parts.length > 0) yield decoded(Buffer.concat(parts));
}
