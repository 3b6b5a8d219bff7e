/** Style and script of the page, beyond what all pages share. */

export const STYLE = `
:root { --learnt: #0b6b3a; --learnt-ground: #d9f3e3; --image: #7a4bb5; --dot: #e5002b }
@media (prefers-color-scheme: dark) { :root { --learnt: #7ee2a8; --learnt-ground: #143424; --image: #c8a4f4; --dot: #ff4d6a } }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 340px), 1fr)); gap: 8px; margin: 8px 0 }
.bars div { display: grid; grid-template-columns: 6.5em 1fr 4.5em; gap: 8px; align-items: center; font-size: .8rem; font-variant-numeric: tabular-nums }
.bars span:first-child { text-align: right; color: var(--faint) }
.bars i { background: var(--bar); height: .75em; border-radius: 2px; min-width: 2px }
.bars i[data-none] { min-width: 0 }
.report { overflow-x: auto; font-size: .78rem; white-space: pre }
nav { position: sticky; top: 0; z-index: 2; display: flex; flex-wrap: wrap; gap: 8px; align-items: center; padding-block: 10px; background: var(--ground) }
nav input { flex: 1 1 220px; min-width: 0 }
nav input, nav select { font: inherit; padding: 6px 10px; border: 1px solid var(--line); border-radius: 8px; background: var(--card); color: var(--ink) }
output, .legend, article p { color: var(--faint); font-size: .82rem; margin: 0 }
.legend b { font-weight: 400; margin-left: 6px }
main { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 340px), 1fr)); gap: 12px; align-items: start; padding-bottom: 40px }
article { padding: 12px; min-width: 0 }
article[hidden] { display: none }
.pictures { display: flex; flex-wrap: wrap; gap: 8px; margin: 8px 0 }
.pictures:has(figure + figure) figure { max-width: calc(50% - 4px) }
figure div { position: relative; width: fit-content; max-width: 100%; line-height: 0; border-radius: 6px; overflow: hidden; border: 1px solid var(--line) }
.dot { position: absolute; width: 24px; height: 24px; margin: -12px 0 0 -12px; border: 3px solid var(--dot); border-radius: 50%;
  box-shadow: 0 0 0 1.5px #fff, inset 0 0 0 1px #fff }
article pre { position: relative; margin: 8px 0 0; white-space: pre-wrap; overflow-wrap: anywhere; max-height: 30rem; overflow-y: auto; font-size: .8rem; line-height: 1.5 }
.context { color: var(--faint) }
.learnt { color: var(--learnt); background: var(--learnt-ground); border-radius: 3px; font-weight: 600 }
.image { color: var(--image) }
@media (max-width: 700px) { nav { position: static } nav select { flex: 1 1 140px; min-width: 0 } dl { grid-template-columns: repeat(2, 1fr) } }
`;

export const SCRIPT = `
const main = document.querySelector("main");
const cards = [...main.children];
const [search, split, order, found] = ["search", "split", "order", "found"].map((id) => document.getElementById(id));
const total = found.textContent;
const texts = new Map(cards.map((card) => [card, card.textContent.toLowerCase()]));
for (const text of document.querySelectorAll("article pre")) {
  const learnt = text.querySelector(".learnt"); // what a long text is opened at
  if (learnt) text.scrollTop = Math.min(learnt.offsetTop - 12, learnt.offsetTop + learnt.offsetHeight + 12 - text.clientHeight);
}
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
