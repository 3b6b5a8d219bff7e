/** Style and script of the page. */

export const STYLE = `
:root { --ground: #f6f7f9; --card: #fff; --ink: #1c2430; --faint: #5d6878; --line: #dde2e9; --learnt: #0b6b3a; --learnt-ground: #d9f3e3;
  --image: #7a4bb5; --bar: #5b8def; --warn: #b3261e; --dot: #e5002b }
@media (prefers-color-scheme: dark) { :root { --ground: #12161c; --card: #1b212a; --ink: #e4e9f0; --faint: #97a3b4; --line: #2d3643;
  --learnt: #7ee2a8; --learnt-ground: #143424; --image: #c8a4f4; --bar: #4f7fd6; --warn: #ff8a80; --dot: #ff4d6a } }
* { box-sizing: border-box }
body { margin: 0; background: var(--ground); color: var(--ink); font: 15px/1.45 system-ui, sans-serif }
header, nav, main { max-width: 1500px; margin: 0 auto; padding: 0 16px }
h1 { font-size: 1.25rem; margin: 18px 0 12px; overflow-wrap: anywhere }
h2 { font-size: .9rem; margin: 0 0 6px; color: var(--faint); font-weight: 600 }
h3 { font-size: .95rem; margin: 0; overflow-wrap: anywhere }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(112px, 1fr)); gap: 8px; margin: 0 }
dl div, section, article, details { background: var(--card); border: 1px solid var(--line); border-radius: 8px }
dl div { padding: 8px 12px }
dt { color: var(--faint); font-size: .8rem }
dd { margin: 0; font-size: 1.15rem; font-variant-numeric: tabular-nums }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 340px), 1fr)); gap: 8px; margin: 8px 0 }
section { padding: 10px 12px }
.bars div { display: grid; grid-template-columns: 6.5em 1fr 4.5em; gap: 8px; align-items: center; font-size: .8rem; font-variant-numeric: tabular-nums }
.bars span:first-child { text-align: right; color: var(--faint) }
.bars i { background: var(--bar); height: .75em; border-radius: 2px; min-width: 1px }
details { padding: 8px 12px }
summary { cursor: pointer; color: var(--faint) }
.report { overflow-x: auto; font-size: .78rem; white-space: pre }
nav { position: sticky; top: 0; z-index: 2; display: flex; flex-wrap: wrap; gap: 8px; align-items: center; padding-block: 10px; background: var(--ground) }
nav input { flex: 1 1 220px; min-width: 0 }
nav input, nav select { font: inherit; padding: 6px 10px; border: 1px solid var(--line); border-radius: 8px; background: var(--card); color: var(--ink) }
output, .legend, article p, figcaption { color: var(--faint); font-size: .82rem; margin: 0 }
.legend b { font-weight: 400; margin-left: 6px }
main { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 340px), 1fr)); gap: 12px; align-items: start; padding-bottom: 40px }
article { padding: 12px; min-width: 0 }
article[hidden] { display: none }
.pictures { display: flex; flex-wrap: wrap; gap: 8px; margin: 8px 0 }
figure { margin: 0; max-width: 100% }
figure div { position: relative; width: fit-content; max-width: 100%; line-height: 0; border-radius: 6px; overflow: hidden; border: 1px solid var(--line) }
img { display: block; max-width: 100%; height: auto }
.dot { position: absolute; width: 24px; height: 24px; margin: -12px 0 0 -12px; border: 3px solid var(--dot); border-radius: 50%;
  box-shadow: 0 0 0 1.5px #fff, inset 0 0 0 1px #fff }
article pre { margin: 8px 0 0; white-space: pre-wrap; overflow-wrap: anywhere; max-height: 26rem; overflow-y: auto; font-size: .8rem; line-height: 1.5 }
.context { color: var(--faint) }
.learnt { color: var(--learnt); background: var(--learnt-ground); border-radius: 3px; font-weight: 600 }
.image { color: var(--image) }
.warn { color: var(--warn) }
@media (max-width: 700px) { nav { position: static } }
`;

export const SCRIPT = `
const main = document.querySelector("main");
const cards = [...main.children];
const [search, split, order, found] = ["search", "split", "order", "found"].map((id) => document.getElementById(id));
const total = found.textContent;
const texts = new Map(cards.map((card) => [card, card.textContent.toLowerCase()]));
function show() {
  const words = search.value.toLowerCase().split(/\\s+/).filter(Boolean);
  let shown = 0;
  for (const card of cards) {
    const fits = words.every((word) => texts.get(card).includes(word)) && (!split.value || card.dataset.split === split.value);
    card.hidden = !fits;
    shown += fits;
  }
  found.textContent = words.length || split.value ? shown + " found" : total;
}
function sort() {
  const key = order.value;
  const sign = key === "trained" || key === "place" ? 1 : -1;
  cards.sort((a, b) => sign * (a.dataset[key] - b.dataset[key]) || a.dataset.place - b.dataset.place);
  main.append(...cards);
}
search.addEventListener("input", show);
split.addEventListener("change", show);
order.addEventListener("change", sort);
`;
