/** Pictures from the network: fetched once a run, with limits, and kept in memory. The only place that opens connections for data. */
import pLimit from "p-limit";
import { messageOf, UserError } from "../utils/errors.ts";
import type { ImageSource } from "../vision/image.ts";

export interface RemoteLimits {
  /** Of one picture. */
  readonly maxBytes: number;
  /** Of all pictures of a run together. */
  readonly maxTotalBytes: number;
  /** For one picture, from asking to its last byte. */
  readonly timeoutMs: number;
}

const LIMITS: RemoteLimits = { maxBytes: 64 * 2 ** 20, maxTotalBytes: 2 * 2 ** 30, timeoutMs: 30_000 };
const FETCHING_AT_ONCE = 8;

/** Fetches pictures; one address is asked once. */
export interface RemoteImages {
  /** @param where file and row, for messages  @throws UserError naming row and address */
  fetch(url: string, where: string): Promise<ImageSource>;
}

export function remoteImages(limits: Partial<RemoteLimits> = {}): RemoteImages {
  const allowed = { ...LIMITS, ...limits };
  const atOnce = pLimit(FETCHING_AT_ONCE);
  const known = new Map<string, Promise<Uint8Array>>();
  let total = 0;
  const load = async (url: string): Promise<Uint8Array> => {
    const bytes = await atOnce(() => download(url, allowed));
    total += bytes.length;
    if (total > allowed.maxTotalBytes)
      throw new UserError(`all pictures together exceed ${allowed.maxTotalBytes} bytes; download them to files`);
    return bytes;
  };
  return {
    async fetch(url, where) {
      const underWay = known.get(url) ?? load(url);
      known.set(url, underWay);
      try {
        return { kind: "bytes", name: url, bytes: await underWay };
      } catch (cause) {
        throw new UserError(`${where}: the picture ${url} cannot be fetched: ${messageOf(cause)}`, { cause });
      }
    },
  };
}

async function download(url: string, { maxBytes, timeoutMs }: RemoteLimits): Promise<Uint8Array> {
  const signal = AbortSignal.timeout(timeoutMs);
  try {
    const response = await fetch(url, { signal });
    if (!response.ok || response.body === null) {
      await response.body?.cancel();
      throw new UserError(`the server answers ${response.status} ${response.statusText}; expected 200`.trim());
    }
    return await bodyOf(response.body as AsyncIterable<Uint8Array>, maxBytes);
  } catch (cause) {
    if (signal.aborted)
      throw new UserError(`it took longer than ${timeoutMs / 1000} s; download it to a file`, { cause });
    if (cause instanceof UserError) throw cause;
    throw new UserError(`${reasonOf(cause)}; check the address and the network, or download it to a file`, { cause });
  }
}

/** Leaving the loop early lets go of the connection. */
async function bodyOf(body: AsyncIterable<Uint8Array>, maxBytes: number): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of body) {
    length += chunk.length;
    if (length > maxBytes)
      throw new UserError(`it is larger than ${maxBytes} bytes; download it to a file and scale it down`);
    chunks.push(chunk);
  }
  return new Uint8Array(Buffer.concat(chunks));
}

/** fetch says "fetch failed" and keeps the reason to itself. */
const reasonOf = (thrown: unknown): string =>
  thrown instanceof Error && thrown.cause instanceof Error ? messageOf(thrown.cause) : messageOf(thrown);
