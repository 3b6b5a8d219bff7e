/** Files that are added to while a program runs. What they hold is told elsewhere too, so a full disk does not end the work. */
import { appendFileSync, existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { messageOf } from "./errors.ts";

export interface GrowingFile {
  readonly file: string;
  /** Adds to the end at once; after a failure nothing more is written. */
  append(contents: string | Uint8Array): void;
  /** Why it holds less than it should; null while it does not. */
  fault(): string | null;
}

/**
 * The file is made anew at the first addition, with its folder. It is open only while something is added: whoever wants to
 * unmount the disk in between may.
 * @param begin what the file starts with
 */
export function growingFile(file: string, begin: string | Uint8Array = ""): GrowingFile {
  let fault: string | null = null;
  let isBegun = false;
  return {
    file,
    append: (contents) => {
      if (fault !== null) return;
      try {
        if (!isBegun) start(file, begin);
        isBegun = true;
        appendFileSync(file, contents);
      } catch (cause) {
        fault = messageOf(cause);
      }
    },
    fault: () => fault,
  };
}

function start(file: string, contents: string | Uint8Array): void {
  mkdirSync(dirname(file), { recursive: true });
  if (existsSync(file)) replace(file, contents);
  else writeFileSync(file, contents);
}

/** Readers see the old file or the new one. */
function replace(file: string, contents: string | Uint8Array): void {
  const temporary = `${file}.tmp-${process.pid}`;
  try {
    writeFileSync(temporary, contents);
    renameSync(temporary, file);
  } catch (cause) {
    rmSync(temporary, { force: true });
    throw cause;
  }
}
