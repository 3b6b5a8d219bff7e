/** Style and script of the report, beyond what all pages share. Signs keep 3:1 against both grounds, texts 4.5:1. */

export const STYLE = `
:root { --vanilla: #6b7685; --global: #2563d9; --personal: #c2410c; --true: #0b7a3e; --better: #0b6b3a; --worse: #b3261e }
@media (prefers-color-scheme: dark) { :root { --vanilla: #a3adbb; --global: #7aa7ff; --personal: #ff9d5c; --true: #4ade80;
  --better: #7ee2a8; --worse: #ff8a80 } }
header, main { max-width: 1240px }
header dl { grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)) }
dd { font-weight: 600 }
.told { color: var(--faint); font-size: .85rem; margin: 10px 0; max-width: 80ch }
.notes { margin: 10px 0; border-left: 4px solid var(--personal) }
.notes ul, .tables ul { margin: 0; padding-left: 1.2em; font-size: .85rem }
.notes li, .tables li { overflow-wrap: anywhere; margin: 2px 0 }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 400px), 1fr)); gap: 12px; margin: 10px 0; align-items: start }
.charts.curves { grid-template-columns: repeat(auto-fit, minmax(min(100%, 320px), 1fr)) }
dd small { display: block; font-size: .8rem; font-weight: 400; color: var(--faint) }
.chart svg { display: block; width: 100%; max-width: 500px; height: auto; margin: 0 auto }
.chart details, .tables details, article details { border: 0; padding: 6px 0 0; background: none }
svg text { font: 12px system-ui, sans-serif; fill: var(--faint); font-variant-numeric: tabular-nums }
svg .macro text { fill: var(--ink); font-weight: 600 }
svg text.better, svg .macro text.better { fill: var(--better) }
svg text.worse, svg .macro text.worse { fill: var(--worse) }
b.better { color: var(--better) } b.worse { color: var(--worse) }
.vanilla { --sign: var(--vanilla) } .global { --sign: var(--global) } .personal { --sign: var(--personal) }
.mark > * { fill: var(--sign); stroke: var(--card); stroke-width: 1.5 }
.mark.vanilla > :first-child { fill: var(--card); stroke: var(--sign); stroke-width: 2.5 }
.grid { stroke: var(--line); fill: none } .rule { stroke: var(--faint); fill: none }
.bar { stroke: var(--line); stroke-width: 6; stroke-linecap: round; fill: none }
.whisker { stroke: var(--sign); stroke-width: 2; fill: none }
.stageline { stroke: var(--sign); stroke-width: 2; fill: none }
.stageline.vanilla { stroke-dasharray: 5 3 }
.limit { stroke: var(--true); stroke-dasharray: 2 3; fill: none }
.mainline { stroke: var(--global); stroke-width: 2; fill: none }
.faintline { stroke: var(--global); opacity: .35; fill: none }
.validation { stroke: var(--personal); stroke-dasharray: 3 3; fill: none }
.dot { fill: var(--personal) }
.personline { stroke: var(--personal); opacity: .5; fill: none }
.legend { display: flex; flex-wrap: wrap; gap: 4px 16px; margin: 12px 0 0; font-size: .9rem }
.legend span { display: inline-flex; align-items: center; gap: 5px }
.legend svg { width: 16px; height: 16px }
.scroll { overflow-x: auto; margin: 6px 0 }
table { border-collapse: collapse; font-size: .82rem; font-variant-numeric: tabular-nums; white-space: nowrap }
caption { text-align: left; color: var(--faint); padding: 4px 0; white-space: normal }
th, td { padding: 3px 10px 3px 0; text-align: left; font-weight: 400; border-bottom: 1px solid var(--line) }
thead th { color: var(--faint) }
.number { text-align: right; padding: 3px 0 3px 10px }
tbody + tbody { font-weight: 600 } tbody + tbody th { font-weight: 600 }
.controls { display: flex; flex-wrap: wrap; gap: 8px 18px; align-items: center; margin: 22px 0 0; font-size: .9rem }
.controls .legend { margin: 0 }
fieldset { border: 1px solid var(--line); border-radius: 8px; padding: 2px 10px 5px; margin: 0 }
legend { color: var(--faint); font-size: .78rem }
select, button { font: inherit; padding: 5px 10px; border: 1px solid var(--line); border-radius: 8px; background: var(--card); color: var(--ink) }
button { cursor: pointer }
:focus-visible { outline: 3px solid var(--global); outline-offset: 2px }
.part { font-size: 1.05rem; color: var(--ink); margin: 18px 0 0 }
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 250px), 1fr)); gap: 12px; align-items: start; padding-bottom: 12px }
article { padding: 10px; min-width: 0 }
article[hidden] { display: none }
article p { color: var(--faint); font-size: .8rem; margin: 0; overflow-wrap: anywhere }
article ul { list-style: none; padding: 0; margin: 6px 0 0; font-size: .82rem }
article li { display: flex; gap: 6px; align-items: baseline; overflow-wrap: anywhere; min-width: 0 }
article li span { min-width: 0 }
article pre { white-space: pre-wrap; overflow-wrap: anywhere; font-size: .76rem; margin: 4px 0 0; max-height: 20rem; overflow-y: auto }
.sign { width: 14px; height: 14px; flex: none; position: relative; top: 2px }
.open { display: block; width: 100%; padding: 0; border: 0; background: none; border-radius: 6px; cursor: zoom-in }
.screen { display: block; width: 100%; max-height: 320px; margin: 0 auto 6px }
.nopicture { fill: var(--ground); stroke: var(--line) }
.screen .mark > * { stroke: #fff; stroke-width: 2; paint-order: stroke }
.screen .mark.vanilla > :first-child { fill: #fff; stroke: #4b5563; stroke-width: 3.5 }
.screen .mark.global { --sign: #2563d9 } .screen .mark.personal { --sign: #d9480f }
.near, .way { fill: none } .cross { stroke: var(--true); stroke-width: 3; fill: none }
.screen .cross { stroke: #12a150 } .screen .near { stroke: #12a150; stroke-width: 1.5; stroke-dasharray: 5 4 }
.screen .way { stroke: #111; stroke-width: 1.2; stroke-dasharray: 2 3 }
.cross.under { stroke: #fff; stroke-width: 6 } .screen .cross.under, .screen .under { stroke: #fff; stroke-dasharray: none; opacity: .75 }
.screen .cross.under { stroke-width: 6 } .screen .near.under { stroke-width: 3 } .screen .way.under { stroke-width: 3 }
.sign .cross.under { display: none }
body:has(#show-vanilla:not(:checked)) .screen .vanilla, body:has(#show-global:not(:checked)) .screen .global,
body:has(#show-personal:not(:checked)) .screen .personal { display: none }
body:has(fieldset input:not(:checked)) .screen .way { display: none }
dialog { width: min(100vw - 16px, 960px); max-width: none; max-height: calc(100vh - 16px); border: 1px solid var(--line); border-radius: 12px; background: var(--card); color: var(--ink); padding: 12px }
dialog::backdrop { background: rgb(0 0 0 / .6) }
dialog .bar { display: flex; gap: 8px; align-items: center; flex-wrap: wrap }
dialog output { flex: 1; text-align: center; color: var(--faint); font-size: .85rem }
dialog article { border: 0; display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 300px), 1fr)); gap: 16px; font-size: 1.05rem }
dialog .screen { max-height: calc(100vh - 110px) }
@media (max-width: 560px) { .gallery article:not([hidden]) { display: grid; grid-template-columns: 120px minmax(0, 1fr); gap: 10px; align-items: start } }
@media (max-width: 700px) { dialog .screen { max-height: 62vh } }
`;

export const SCRIPT = `
const viewer = document.getElementById("viewer");
const cards = [...document.querySelectorAll(".gallery article")];
const found = document.getElementById("found");
const user = document.getElementById("user");
const seen = () => cards.filter((card) => !card.hidden);
let current = null;
function show(card) {
  current = card;
  const copy = card.cloneNode(true);
  const button = copy.querySelector(".open");
  button.replaceWith(button.firstElementChild);
  copy.querySelector("details").open = true;
  viewer.querySelector(".content").replaceChildren(copy);
  const all = seen();
  viewer.querySelector("output").textContent = (all.indexOf(card) + 1) + " of " + all.length;
  if (!viewer.open) viewer.showModal();
}
function step(by) {
  const all = seen();
  show(all[(all.indexOf(current) + by + all.length) % all.length]);
}
for (const card of cards) card.querySelector(".open").addEventListener("click", () => show(card));
viewer.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button?.dataset.step) step(Number(button.dataset.step));
  else if (event.target === viewer || button) viewer.close();
});
viewer.addEventListener("keydown", (event) => {
  const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!by) return;
  event.preventDefault();
  step(by);
});
viewer.addEventListener("close", () => current?.querySelector(".open").focus());
user?.addEventListener("change", () => {
  for (const card of cards) card.hidden = user.value !== "" && card.dataset.user !== user.value;
  found.textContent = user.value === "" ? "" : seen().length + " shown";
});
`;
