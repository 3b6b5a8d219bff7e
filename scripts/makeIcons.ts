/**
 * Makes assets/icons from the pictures of an npm package: one sheet of 64 x 64 pictures, eight a row, and their names.
 *
 *     npm install --no-save emoji-datasource-google@16.0.0
 *     npx tsx scripts/makeIcons.ts [PACKAGE_DIR]
 */
import { readFileSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import path from "node:path";
import sharp from "sharp";

const OUT = path.resolve(import.meta.dirname, "../assets/icons");
const SIZE = 64;
const COLUMNS = 8;

/** name of ours -> file of the package (the emoji's code points) */
const PICTURES = {
  music: "1f3b8",
  camera: "1f4f7",
  calendar: "1f4c5",
  mail: "1f4e7",
  map: "1f5fa-fe0f",
  clock: "23f0",
  phone: "260e-fe0f",
  chat: "1f4ac",
  weather: "26c5",
  news: "1f4f0",
  photos: "1f5bc-fe0f",
  video: "25b6-fe0f",
  games: "1f9e9",
  books: "1f4da",
  notes: "1f4dd",
  bank: "1f3e6",
  shop: "1f6d2",
  food: "1f354",
  taxi: "1f695",
  train: "1f686",
  flights: "2708-fe0f",
  hotel: "1f3e8",
  health: "2764-fe0f",
  fitness: "1f45f",
  bike: "1f6b2",
  radio: "1f4fb",
  tv: "1f4fa",
  files: "1f4c1",
  settings: "2699-fe0f",
  browser: "1f310",
  torch: "1f526",
  wallet: "1f4b3",
  podcast: "1f399-fe0f",
  paint: "1f3a8",
  keys: "1f511",
  pets: "1f436",
  search: "1f50d",
  back: "2b05-fe0f",
  add: "2795",
  delete: "1f5d1-fe0f",
  allow: "2705",
  deny: "274c",
  alerts: "1f514",
  lock: "1f512",
  star: "2b50",
  edit: "270f-fe0f",
  share: "1f4e4",
  refresh: "1f504",
};

const packageDir = process.argv[2] ?? "node_modules/emoji-datasource-google";
const { name, version } = JSON.parse(readFileSync(path.join(packageDir, "package.json"), "utf8"));
const codes = Object.values(PICTURES);
const rows = Math.ceil(codes.length / COLUMNS);
const placed = codes.map((code, i) => ({
  input: path.join(packageDir, "img/google/64", `${code}.png`),
  left: (i % COLUMNS) * SIZE,
  top: Math.floor(i / COLUMNS) * SIZE,
}));
const background = { r: 0, g: 0, b: 0, alpha: 0 };
await sharp({ create: { width: COLUMNS * SIZE, height: rows * SIZE, channels: 4, background } })
  .composite(placed)
  .png({ compressionLevel: 9 })
  .toFile(path.join(OUT, "sheet.png"));
const listing = { source: `${name}@${version}`, size: SIZE, columns: COLUMNS, pictures: PICTURES };
await writeFile(path.join(OUT, "names.json"), `${JSON.stringify(listing, null, 2)}\n`);
console.log(`${codes.length} icons written to ${path.relative(process.cwd(), OUT)}`);
