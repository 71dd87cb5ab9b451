"""The look of the page: one style sheet, light and dark."""

CSS = """
:root {
  color-scheme: light dark;
  --page: #f6f6f3; --card: #ffffff; --ink: #1b1d22; --soft: #5d626d; --line: #e3e3de;
  --kept: #18786c; --index: #c58a1d; --track: #e9e9e4;
  --sparse: #18786c; --dense: #6b7280; --refused: #b3362b;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #14161a; --card: #1d2025; --ink: #e9eaec; --soft: #9aa1ad; --line: #2e323a;
    --kept: #45b5a4; --index: #e0ad4c; --track: #2c3038;
    --sparse: #45b5a4; --dense: #9aa1ad; --refused: #f07a6d;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 32px 20px 48px; }
h1 { font-size: 28px; line-height: 1.2; margin: 4px 0 8px; overflow-wrap: anywhere; }
h2 { font-size: 17px; margin: 0 0 4px; }
p { margin: 0 0 10px; }
.eyebrow, .soft { color: var(--soft); }
.eyebrow { font-size: 13px; margin: 0; }
.lead { font-size: 17px; max-width: 84ch; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 18px 20px; margin-top: 16px; }
.tiles { display: grid; grid-template-columns: repeat(6, 1fr); gap: 12px; margin-top: 16px; }
@media (max-width: 980px) { .tiles { grid-template-columns: repeat(3, 1fr); } }
@media (max-width: 520px) { .tiles { grid-template-columns: repeat(2, 1fr); } }
.tile { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 12px 14px; }
.tile b { display: block; font-size: 22px; line-height: 1.25; font-weight: 650; }
.tile span { display: block; font-size: 13px; color: var(--soft); }
.bars { display: grid; grid-template-columns: minmax(90px, max-content) 1fr max-content;
  gap: 8px 14px; align-items: center; margin-top: 12px; }
.bars > div { display: contents; }
.num { font-variant-numeric: tabular-nums; white-space: nowrap; text-align: right; }
svg { display: block; width: 100%; }
svg.bar { height: 12px; }
svg.strip { height: 84px; margin: 4px 0 2px; }
.track { fill: var(--track); } .kept { fill: var(--kept); } .index { fill: var(--index); }
.ends { display: flex; justify-content: space-between; font-size: 12px; color: var(--soft); }
.strips { display: grid; grid-template-columns: repeat(auto-fit, minmax(280px, 1fr)); gap: 20px;
  margin: 10px 0 18px; }
.key { font-size: 13px; color: var(--soft); }
.key i { display: inline-block; width: 10px; height: 10px; border-radius: 2px;
  margin: 0 5px 0 12px; }
.key i:first-child { margin-left: 0; }
.layers { display: grid; font-size: 14px;
  grid-template-columns: minmax(210px, 2.4fr) minmax(60px, 1fr) 78px minmax(60px, 1fr) 168px 76px; }
.layers > div { display: contents; }
.layers > div > span { padding: 5px 12px 5px 0; border-top: 1px solid var(--line);
  display: flex; align-items: center; min-width: 0; }
.layers > div.head > span { border: 0; font-size: 12px; color: var(--soft); }
.layers .num { justify-content: flex-end; }
.layers .name { display: block; }
.name b { font-weight: 600; overflow-wrap: anywhere; display: block; line-height: 1.3; }
.name small { color: var(--soft); font-size: 12px; overflow-wrap: anywhere; }
.badge { font-size: 12px; font-weight: 600; border: 1px solid currentColor; border-radius: 99px;
  padding: 0 9px; line-height: 19px; }
.badge.sparse { color: var(--sparse); } .badge.dense { color: var(--dense); }
.badge.refused { color: var(--refused); }
ul.why { list-style: none; padding: 0; margin: 10px 0 0; }
ul.why li { display: grid; grid-template-columns: 82px 1fr; gap: 4px 12px; padding: 9px 0;
  border-top: 1px solid var(--line); }
ul.why li > span { align-self: start; justify-self: start; }
ul.why p { margin: 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
th { font-size: 12px; font-weight: 500; color: var(--soft); text-align: left; }
th, td { padding: 6px 14px 6px 0; border-top: 1px solid var(--line); vertical-align: top; }
tr:first-child th { border: 0; }
th.num { text-align: right; }
td.long { overflow-wrap: anywhere; min-width: 200px; }
summary { cursor: pointer; font-weight: 600; font-size: 17px; }
details[open] summary { margin-bottom: 10px; }
li details summary { font-size: 13px; font-weight: 400; color: var(--soft); }
footer { color: var(--soft); font-size: 13px; margin-top: 22px; overflow-wrap: anywhere; }
@media (max-width: 720px) {
  main { padding: 20px 12px 32px; }
  .bars { display: block; }
  .bars > div { display: grid; grid-template: "name number" "bar bar" / 1fr max-content;
    gap: 2px 12px; margin-bottom: 10px; }
  .bars svg { grid-area: bar; }
  .layers { grid-template-columns: 1fr max-content; gap: 0 14px; }
  .layers > div.head { display: none; }
  .layers > div > span { border: 0; padding: 2px 0; }
  .layers .name { border-top: 1px solid var(--line) !important; padding-top: 8px !important;
    grid-column: 1 / -1; }
  .layers > div > span:last-child { grid-column: 1 / -1; padding-bottom: 8px; }
  .layers > div > span.chart { grid-column: 1; }
  .layers > div > span.num { grid-column: 2; }
  .layers .density::after { content: "\\a0kept"; }
}
"""
