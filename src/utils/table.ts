/** Tables as text, columns aligned, ruled with box characters. */

export interface Column {
  readonly name: string;
  readonly align: "left" | "right";
}

/**
 * @param rows  one cell a column; a row given as null is a rule
 * @returns lines joined by newlines, without one at the end
 */
export function formatTable(columns: readonly Column[], rows: readonly (readonly string[] | null)[]): string {
  const cellRows = rows.filter((row) => row !== null);
  const widths = columns.map(({ name }, c) => Math.max(...[name, ...cellRows.map((row) => row[c] ?? "")].map(widthOf)));
  const rule = (left: string, middle: string, right: string): string =>
    left + widths.map((width) => "─".repeat(width + 2)).join(middle) + right;
  const line = (cells: readonly string[]): string => {
    const padded = columns.map(({ align }, c) => padTo(cells[c] ?? "", widths[c] ?? 0, align));
    return `│ ${padded.join(" │ ")} │`;
  };
  const head = columns.map(({ name }) => name);
  const body = rows.map((row) => (row === null ? rule("├", "┼", "┤") : line(row)));
  return [rule("┌", "┬", "┐"), line(head), rule("├", "┼", "┤"), ...body, rule("└", "┴", "┘")].join("\n");
}

const padTo = (cell: string, width: number, align: Column["align"]): string => {
  const space = " ".repeat(width - widthOf(cell));
  return align === "left" ? cell + space : space + cell;
};

const MARK = /^\p{M}|\u200d|\ufe0f$/u;
const WIDE = /^(?:\p{Script=Han}|\p{Script=Hiragana}|\p{Script=Katakana}|\p{Script=Hangul}|\p{Emoji_Presentation})$/u;

/** Columns that a terminal uses: two for East Asian characters and emoji, none for combining marks. */
export const widthOf = (text: string): number =>
  [...text].reduce((sum, char) => sum + (MARK.test(char) ? 0 : WIDE.test(char) ? 2 : 1), 0);
