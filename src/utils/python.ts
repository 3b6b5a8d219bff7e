/** Values as Python writes them, for files that Python programs read. */

/** `repr` of a float: "1.0", "1e-05", "1e+16". Digits are the shortest that read back equal, in both languages. */
export function pythonFloat(value: number): string {
  if (Number.isNaN(value)) return "nan";
  if (!Number.isFinite(value)) return value > 0 ? "inf" : "-inf";
  if (Object.is(value, -0)) return "-0.0";
  if (value === 0) return "0.0";
  const [digits = "", power = "0"] = value.toExponential().split("e");
  const exponent = Number(power);
  if (exponent >= -4 && exponent < 16) return plainDecimal(value, exponent);
  return `${digits}e${exponent < 0 ? "-" : "+"}${String(Math.abs(exponent)).padStart(2, "0")}`;
}

// JavaScript itself turns to exponents only below 1e-6 and from 1e21 on, so here it writes plain decimals
function plainDecimal(value: number, exponent: number): string {
  return Number.isInteger(value) && exponent >= 0 ? `${value}.0` : String(value);
}

/** A dict literal of floats, `None` for null: `{'accuracy': 0.5, 'mean_l2': 1.0}`. Names must be plain words. */
export function pythonDict(values: Readonly<Record<string, number | null>>): string {
  const items = Object.entries(values).map(([name, value]) => {
    return `'${name}': ${value === null ? "None" : pythonFloat(value)}`;
  });
  return `{${items.join(", ")}}`;
}

const ITEM = /^\s*'(\w+)'\s*:\s*(None|nan|[+-]?(?:inf|\d+\.?\d*(?:e[+-]?\d+)?))\s*$/;

/** The inverse of `pythonDict`. @returns null for other texts */
export function readPythonDict(text: string): Readonly<Record<string, number | null>> | null {
  const body = /^\s*\{(.*)\}\s*$/s.exec(text)?.[1];
  if (body === undefined) return null;
  const values: Record<string, number | null> = {};
  for (const item of body.split(",")) {
    const [, name, value] = ITEM.exec(item) ?? [];
    if (name === undefined || value === undefined) return null;
    values[name] = value === "None" ? null : Number(value.replace("inf", "Infinity").replace("nan", "NaN"));
  }
  return values;
}

// what str.isspace() is true for; unlike JavaScript's trim, it takes U+001C to U+001F and U+0085, and leaves U+FEFF
const SPACES = new Set(
  "\t\n\v\f\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000",
);

/** `str.strip()`. (One regular expression for both ends would take quadratic time on long runs of spaces.) */
export function pythonStrip(text: string): string {
  let start = 0;
  let end = text.length;
  while (start < end && SPACES.has(text.charAt(start))) start++;
  while (end > start && SPACES.has(text.charAt(end - 1))) end--;
  return text.slice(start, end);
}
