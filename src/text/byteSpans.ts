/** Which character of a text each byte of its normalised (NFC) UTF-8 form comes from. */

/** Byte k comes from the UTF-16 units [starts[k], ends[k]) of the text. */
export interface ByteSpans {
  readonly starts: readonly number[];
  readonly ends: readonly number[];
}

export function byteSpansOf(text: string): ByteSpans {
  const starts: number[] = [];
  const ends: number[] = [];
  let at = 0;
  for (const piece of piecesOf(text)) {
    const end = at + piece.length;
    for (let bytes = utf8Length(piece.normalize("NFC")); bytes > 0; bytes--) {
      starts.push(at);
      ends.push(end);
    }
    at = end;
  }
  return { starts, ends };
}

/** The text in single characters, except where normalisation joins or reorders several: those stay together. */
function piecesOf(text: string): Iterable<string> {
  if (text.normalize("NFC") === text) return text;
  return clustersOf(text).flatMap((cluster) => (cluster.normalize("NFC") === cluster ? [...cluster] : [cluster]));
}

/**
 * Cuts where normalising the parts equals normalising the whole: at first before every character that is no combining
 * mark, then neighbours that still compose (Hangul letters, for one) are joined again.
 */
function clustersOf(text: string): string[] {
  const clusters: string[] = [];
  for (const [cluster] of text.matchAll(/\P{M}\p{M}*|\p{M}+/gsu)) {
    const last = clusters.at(-1);
    const isSeparate =
      last === undefined || (last + cluster).normalize("NFC") === last.normalize("NFC") + cluster.normalize("NFC");
    if (isSeparate) clusters.push(cluster);
    else clusters[clusters.length - 1] = last + cluster;
  }
  return clusters;
}

/** A lone surrogate counts 3 bytes: encoders write U+FFFD for it. */
function utf8Length(text: string): number {
  let bytes = 0;
  for (const char of text) {
    const codePoint = char.codePointAt(0) ?? 0;
    if (codePoint < 0x80) bytes += 1;
    else if (codePoint < 0x800) bytes += 2;
    else if (codePoint < 0x10000) bytes += 3;
    else bytes += 4;
  }
  return bytes;
}
