"""The style sheet of HTML reports; colours follow the reader's light or dark setting."""

STYLE = """
:root {
  --page: #f6f7f9; --card: #ffffff; --text: #1b2330; --soft: #5b6675; --line: #e1e5eb; --stripe: #f8f9fb;
  --bar: #3b6fd4; --reach: #1f4391; --good: #1a7f4b; --good-soft: #e3f4ea; --bad: #c0362c; --bad-soft: #fdeae8;
  --warn: #8a5a00; --warn-soft: #fff5dc; --limit: #c0362c;
  --series-1: #2f63c9; --series-2: #c2571a; --series-3: #1a7f4b; --series-4: #8b3fa8; --series-5: #9a7300;
  --series-6: #0f7f8c;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #10141b; --card: #181e27; --text: #e3e8ef; --soft: #97a3b3; --line: #2a3240; --stripe: #1c232e;
    --bar: #6b9bf5; --reach: #b4cdfb; --good: #5ecb92; --good-soft: #16352a; --bad: #f2877d; --bad-soft: #40201f;
    --warn: #e9bd62; --warn-soft: #372b12; --limit: #f2877d;
    --series-1: #7aa6f7; --series-2: #f0965c; --series-3: #5ecb92; --series-4: #cf93e6; --series-5: #e2c04f;
    --series-6: #55c8d6;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 2rem clamp(1rem, 4vw, 3rem); max-width: 78rem; background: var(--page); color: var(--text);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
}
header, .title { display: flex; flex-wrap: wrap; align-items: center; gap: .4rem .9rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0; letter-spacing: -.01em; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 0; overflow-wrap: anywhere; }
h3 { font-size: .82rem; margin: 1.6rem 0 .5rem; color: var(--soft); font-weight: 600; }
nav { display: flex; flex-wrap: wrap; gap: .4rem; margin: 1rem 0 0; }
nav a {
  display: inline-flex; align-items: center; gap: .45rem; padding: .25rem .7rem; border: 1px solid var(--line);
  border-radius: 1rem; background: var(--card); color: inherit; text-decoration: none; font-size: .88rem;
}
nav a:hover { border-color: var(--bar); }
section {
  margin: 1.25rem 0 0; padding: 1.4rem clamp(1rem, 2.5vw, 1.8rem); background: var(--card);
  border: 1px solid var(--line); border-radius: .7rem;
}
.badge { padding: .1rem .6rem; border-radius: 1rem; font-size: .82rem; font-weight: 600; white-space: nowrap; }
.badge.good { background: var(--good-soft); color: var(--good); }
.badge.bad { background: var(--bad-soft); color: var(--bad); }
.dot { width: .5rem; height: .5rem; border-radius: 50%; }
.dot.good { background: var(--good); }
.dot.bad { background: var(--bad); }
.summary { margin: .5rem 0 0; max-width: 75ch; }
.warning {
  margin: .9rem 0 0; padding: .55rem .8rem; border-left: 3px solid var(--warn); border-radius: .25rem;
  background: var(--warn-soft); color: var(--warn); font-size: .92rem;
}
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); gap: 0 2.2rem; }
figure { margin: 1.3rem 0 0; min-width: 0; max-width: 43rem; }
figcaption { font-size: .82rem; color: var(--soft); margin-top: .35rem; }
figure strong { display: block; font-size: .82rem; font-weight: 600; color: var(--soft); margin-bottom: .4rem; }
.drawing { overflow-x: auto; }
svg { display: block; width: 100%; height: auto; font: 12px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
svg text { fill: var(--text); paint-order: stroke; stroke: var(--card); stroke-width: 4px; stroke-linejoin: round; }
svg .axis { fill: var(--soft); font-size: 11px; }
svg .grid { stroke: var(--line); }
svg .bar { fill: var(--bar); }
svg .bar.tone-good { fill: var(--good); }
svg .bar.tone-bad { fill: var(--bad); }
svg .bar.tone-muted { fill: var(--soft); }
svg .reach { stroke: var(--reach); stroke-width: 1.5; }
svg .limit { stroke: var(--limit); stroke-width: 1.5; stroke-dasharray: 4 3; }
svg .limit-text { fill: var(--limit); font-size: 11px; }
svg .line { fill: none; stroke: var(--bar); stroke-width: 1.6; stroke-linejoin: round; }
svg .area { fill: var(--bar); opacity: .13; }
svg .band { fill: var(--stripe); }
svg .point { fill: var(--bar); }
svg .point.tone-bad { fill: var(--bad); }
svg .axis-line { stroke: var(--soft); }
svg .density { fill: var(--bar); fill-opacity: .28; stroke: var(--bar); stroke-width: 1; stroke-linejoin: round; }
svg .quartiles { stroke: var(--reach); stroke-width: 3; stroke-linecap: round; }
svg .curve { fill: none; stroke-width: 1.5; stroke-linejoin: round; }
svg .curve.series-1 { stroke: var(--series-1); } svg .marker.series-1 { fill: var(--series-1); }
svg .curve.series-2 { stroke: var(--series-2); } svg .marker.series-2 { fill: var(--series-2); }
svg .curve.series-3 { stroke: var(--series-3); } svg .marker.series-3 { fill: var(--series-3); }
svg .curve.series-4 { stroke: var(--series-4); } svg .marker.series-4 { fill: var(--series-4); }
svg .curve.series-5 { stroke: var(--series-5); } svg .marker.series-5 { fill: var(--series-5); }
svg .curve.series-6 { stroke: var(--series-6); } svg .marker.series-6 { fill: var(--series-6); }
.legend { display: flex; flex-wrap: wrap; gap: .1rem .9rem; margin: 0 0 .4rem; font-size: .8rem; }
.legend { overflow-wrap: anywhere; }
.legend span { display: inline-flex; align-items: center; gap: .35rem; min-width: 0; }
.legend svg.key { flex: none; width: .8rem; height: .8rem; }
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 17rem), 1fr)); gap: .7rem; }
.card {
  display: flex; gap: .8rem; align-items: center; min-width: 0; padding: .6rem; border: 1px solid var(--line);
  border-radius: .5rem; background: var(--stripe); break-inside: avoid;
}
.card > div { min-width: 0; flex: 1; }
.card img, .blank {
  flex: none; width: 4.5rem; height: 4.5rem; border-radius: .3rem; object-fit: contain; background: #0003;
  image-rendering: pixelated;
}
.card p { margin: 0; }
.name { color: var(--soft); font-size: .76rem; white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
.answers { font-weight: 600; overflow-wrap: anywhere; line-height: 1.35; }
.answers .tone-good { color: var(--good); }
.answers .tone-bad { color: var(--bad); }
svg.margin { height: .28rem; margin: .35rem 0 .25rem; border-radius: 1rem; }
svg.margin .track { fill: var(--line); }
svg.margin .fill { fill: var(--bar); }
.caption { margin: .5rem 0 0; font-size: .82rem; color: var(--soft); max-width: 75ch; }
.tables { display: flex; flex-wrap: wrap; align-items: flex-start; gap: 0 2rem; }
.tables > * { min-width: 0; max-width: 100%; }
details { flex-basis: 100%; margin-top: .9rem; }
summary { cursor: pointer; }
summary h3 { display: inline; }
summary span { color: var(--soft); font-size: .78rem; }
details .scroll { margin-top: .6rem; }
.scroll { width: fit-content; max-width: 100%; overflow-x: auto; border: 1px solid var(--line); border-radius: .45rem; }
.scroll:focus-visible { outline: 2px solid var(--bar); }
table { border-collapse: collapse; font-size: .88rem; }
th, td { padding: .42rem .75rem; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 600; white-space: nowrap; background: var(--stripe); }
tbody tr:last-child td { border-bottom: 0; }
tbody tr:hover { background: var(--stripe); }
td { overflow-wrap: break-word; min-width: 4rem; }
.stacked th, .stacked td { padding: .42rem .55rem; white-space: normal; min-width: 0; }
.stacked td:first-child { min-width: 9rem; }
.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
td.tone-good { color: var(--good); }
td.tone-bad { color: var(--bad); font-weight: 600; }
td.tone-muted { color: var(--soft); }
ul { margin: 0; padding-left: 1.15rem; font-size: .9rem; }
li { margin: .15rem 0; }
.facts { display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); gap: .7rem 1.6rem; margin: 0; }
.facts div { min-width: 0; }
dt { font-size: .78rem; color: var(--soft); }
dd { margin: 0; font-size: .9rem; overflow-wrap: anywhere; }
footer { margin: 1.5rem 0 0; color: var(--soft); font-size: .82rem; }
@media (max-width: 34rem) {
  body { padding: 1rem .6rem; }
  section { padding: 1rem .8rem; }
  .drawing svg { min-width: 22rem; font-size: 14px; }
  svg .label { font-size: 16px; }
  svg .axis, svg .limit-text { font-size: 13px; }
  .stacked, .stacked tbody, .stacked tr, .stacked td { display: block; }
  .stacked thead { display: none; }
  .stacked tr { padding: .5rem .75rem; border-bottom: 1px solid var(--line); }
  .stacked tbody tr:last-child { border-bottom: 0; }
  .stacked td { padding: .1rem 0; border: 0; text-align: left; white-space: normal; overflow-wrap: anywhere; }
  .stacked td[data-column]::before { content: attr(data-column) ": "; color: var(--soft); font-weight: 400; }
}
@media print {
  body { background: #fff; padding: 0; }
  section { border: 0; padding: 0; }
  figure, .card, tr { break-inside: avoid; }
  .scroll, .drawing { overflow: visible; width: auto; }
  table { font-size: .66rem; }
  th, td, .stacked th, .stacked td { padding: .3rem; min-width: 0; white-space: normal; }
  td:first-child, .stacked td:first-child { min-width: 5rem; overflow-wrap: anywhere; }
  nav { display: none; }
  details::details-content { content-visibility: visible; height: auto; }
}
"""
