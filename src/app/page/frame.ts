/** The frame of pages that need nothing beside them: style and script inside, no request to anywhere. */
import { BASE_STYLE } from "./baseStyle.ts";

export interface Page {
  readonly title: string;
  /** Beyond the style that all pages share. */
  readonly style: string;
  readonly body: string;
  readonly script: string;
}

export const framed = ({ title, style, body, script }: Page): string => `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>${escaped(title)}</title>
<style>${BASE_STYLE}${style}</style>
${body}
<script>${script}</script>
</html>
`;

export const escaped = (text: string): string =>
  text
    .replaceAll("&", "&amp;")
    .replaceAll("<", "&lt;")
    .replaceAll(">", "&gt;")
    .replaceAll('"', "&quot;")
    .replaceAll("'", "&#39;");

/** Numbers with their names, as tiles; what may stand third is smaller. All is escaped. */
export const tiles = (shown: readonly (readonly [name: string, value: string, beside?: string])[]): string =>
  `<dl>${shown.map(tile).join("")}</dl>`;

function tile([name, value, beside]: readonly [name: string, value: string, beside?: string]): string {
  const small = beside === undefined ? "" : `<small>${escaped(beside)}</small>`;
  return `<div><dt>${escaped(name)}</dt><dd>${escaped(value)}${small}</dd></div>`;
}

export const jpegUri = (jpeg: Uint8Array): string => `data:image/jpeg;base64,${Buffer.from(jpeg).toString("base64")}`;
