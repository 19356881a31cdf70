"""The style of the status page."""

# Contrast of every text on its ground is 4.5 or more (WCAG 2.1, 1.4.3), light and dark.
STYLE = """
:root {
  --ground: #f6f7f9; --card: #ffffff; --text: #1b1f24; --quiet: #57606a; --line: #d0d7de;
  --good: #116329; --good-ground: #dafbe1; --warn: #7d4e00; --warn-ground: #fff3c4;
  --bad: #a40e26; --bad-ground: #ffe3e6; --bar: #2f6fdb; --track: #e6eaef; --link: #0a54b5;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #0f1318; --card: #171c23; --text: #e6edf3; --quiet: #9aa6b2; --line: #30363d;
    --good: #6fdd8b; --good-ground: #10331c; --warn: #f0c050; --warn-ground: #3a2c07;
    --bad: #ff9aa2; --bad-ground: #47121a; --bar: #5b9dff; --track: #262d36; --link: #79b8ff;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; padding: 1.25rem clamp(0.75rem, 3vw, 2.5rem) 2rem; background: var(--ground);
  color: var(--text); font: 15px/1.5 system-ui, "Segoe UI", Roboto, sans-serif;
}
header { display: flex; flex-wrap: wrap; gap: 0.25rem 0.9rem; align-items: center; }
h1 { font-size: 1.45rem; margin: 0; }
h2 { font-size: 1.1rem; margin: 0 0 0.4rem; }
.moment { margin: 0 0 0 auto; color: var(--quiet); font-variant-numeric: tabular-nums; }
section {
  background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 0.9rem 1.1rem; margin-top: 1rem; min-width: 0;
}
.wide { overflow-x: auto; }
section p { margin: 0 0 0.6rem; color: var(--quiet); }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(20rem, 1fr)); gap: 0 1rem; }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(15rem, 1fr));
  gap: 0.5rem 1.5rem; margin: 0; }
dt { color: var(--quiet); font-size: 0.85rem; }
dd { margin: 0; overflow-wrap: anywhere; }
.conditions { list-style: none; margin: 0.8rem 0 0; padding: 0.7rem 0 0; display: grid;
  gap: 0.35rem; border-top: 1px solid var(--line); }
.conditions li { display: grid; grid-template-columns: 3rem auto; align-items: baseline; }
.conditions .badge { justify-self: start; }
.badge { display: inline-block; border-radius: 99px; padding: 0 0.6em; font-weight: 600;
  font-size: 0.85em; border: 1px solid var(--line); }
.good { color: var(--good); background: var(--good-ground); }
.warn { color: var(--warn); background: var(--warn-ground); }
.bad { color: var(--bad); background: var(--bad-ground); }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
caption { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
th, td { text-align: left; padding: 0.35rem 1rem 0.35rem 0; vertical-align: middle; }
th:last-child, td:last-child { padding-right: 0; }
th.number, td.number { text-align: right; }
thead th { color: var(--quiet); font-weight: 500; font-size: 0.85rem; vertical-align: bottom;
  border-bottom: 1px solid var(--line); }
tbody tr + tr > * { border-top: 1px solid var(--line); }
tbody th { font-weight: 600; }
td.number, td code { white-space: nowrap; }
code { font: 0.92em/1.4 ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; }
.share { display: inline-grid; grid-template-columns: 7rem auto; gap: 0 0.6rem;
  align-items: center; white-space: nowrap; }
.share small { grid-column: 2; color: var(--quiet); }
svg { width: 7rem; height: 0.6rem; border-radius: 3px; }
.track { fill: var(--track); }
.bar { fill: var(--bar); }
.mark { stroke: var(--text); stroke-width: 2; vector-effect: non-scaling-stroke; }
footer { margin-top: 1rem; color: var(--quiet); }
a { color: var(--link); }
@media (max-width: 46rem) {
  .moment { margin-left: 0; width: 100%; }
  .pair { display: block; }
  thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
  table, tbody { display: block; }
  tbody tr { display: grid; padding: 0.5rem 0; border-top: 1px solid var(--line); }
  tbody tr + tr > * { border-top: 0; }
  tbody th { padding: 0 0 0.2rem; font-size: 1.05em; }
  td, td.number { display: flex; justify-content: space-between; gap: 1rem; text-align: right;
    padding: 0.1rem 0; }
  td::before { content: attr(data-title); color: var(--quiet); text-align: left; }
  .share { grid-template-columns: 5rem auto; }
  svg { width: 5rem; }
}
"""
