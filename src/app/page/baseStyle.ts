/** What all pages look like, in light and dark. */
export const BASE_STYLE = `
:root { --ground: #f6f7f9; --card: #fff; --ink: #1c2430; --faint: #5d6878; --line: #dde2e9; --bar: #5b8def; --warn: #b3261e }
@media (prefers-color-scheme: dark) { :root { --ground: #12161c; --card: #1b212a; --ink: #e4e9f0; --faint: #97a3b4; --line: #2d3643;
  --bar: #4f7fd6; --warn: #ff8a80 } }
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
section { padding: 10px 12px }
details { padding: 8px 12px }
summary { cursor: pointer; color: var(--faint) }
figure { margin: 0; max-width: 100% }
figcaption { color: var(--faint); font-size: .82rem; margin: 0 }
img { display: block; max-width: 100%; height: auto }
.warn { color: var(--warn) }
`;
