/** What stands in the way of writing a run's folder, in words and with what to do. */
import { messageOf } from "../utils/errors.ts";

const OBSTACLES: Readonly<Record<string, string>> = {
  ENOSPC: "the disk is full; free some space, or name another --checkpoint-dir",
  EDQUOT: "the disk quota is used up; free some space, or name another --checkpoint-dir",
  EFBIG: "a file grew larger than allowed here; name another --checkpoint-dir",
  EROFS: "the file system is read-only; name another --checkpoint-dir",
  EACCES: "no permission to write there; name another --checkpoint-dir",
  EPERM: "no permission to write there; name another --checkpoint-dir",
};

/** The first known reason among an error and its causes, or the error's own words. */
export function obstacle(thrown: unknown): string {
  for (let cause = thrown; cause instanceof Error; cause = cause.cause) {
    const code = "code" in cause ? String(cause.code) : "";
    if (Object.hasOwn(OBSTACLES, code)) return `${OBSTACLES[code]} (${cause.message})`;
  }
  return messageOf(thrown);
}
