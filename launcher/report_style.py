"""The style sheet of the report: light and dark by the reader's own choice, one column on a phone.

Not modelled: print.
"""

from typing import Final

STYLE: Final = """
:root {
  color-scheme: light dark;
  --paper: #fbfaf7; --card: #ffffff; --ink: #1d2126; --soft: #5f6872; --rule: #dfdcd4;
  --emulated: #b3541e; --paravirtual: #2b6cb0; --passthrough: #2a7f4f; --bad: #b00020; --track: #ecebe5;
  --guest: #5b7fb5; --vmm: #b3541e; --iommu: #8a6bb1; --nic: #2a7f4f;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #15181c; --card: #1d2126; --ink: #e7e5df; --soft: #9aa3ad; --rule: #333a42;
    --emulated: #e58a50; --paravirtual: #6aa9ea; --passthrough: #5cc48b; --bad: #ff7b86; --track: #2a3037;
    --guest: #86a6d6; --vmm: #e58a50; --iommu: #b79be0; --nic: #5cc48b;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 1.2rem 1rem 4rem; max-width: 68rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif;
}
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0.6rem 0 0.4rem; }
h2 { font-size: 1.25rem; margin: 2.4rem 0 0.3rem; }
h3 { font-size: 1rem; margin: 1.6rem 0 0.5rem; }
.card h3 { margin-top: 0; }
p { margin: 0.3rem 0 0.8rem; max-width: 46rem; }
.soft, figcaption, .lead { color: var(--soft); }
.grid { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 25rem), 1fr)); }
.three { grid-template-columns: repeat(auto-fit, minmax(min(100%, 16rem), 1fr)); }
.card { background: var(--card); border: 1px solid var(--rule); border-radius: 8px; padding: 0.9rem 1rem; }
figure { margin: 0; }
figcaption { font-size: 0.85rem; margin-top: 0.4rem; }
svg { display: block; width: 100%; overflow: visible; }
svg text { fill: var(--ink); font: 13px system-ui, sans-serif; }
svg text.value { font-variant-numeric: tabular-nums; }
svg text.soft { fill: var(--soft); font-size: 12px; }
.track { fill: var(--track); }
.emulated { fill: var(--emulated); } .paravirtual { fill: var(--paravirtual); }
.passthrough { fill: var(--passthrough); }
.guest { fill: var(--guest); } .vmm { fill: var(--vmm); } .iommu { fill: var(--iommu);
  } .nic { fill: var(--nic); }
line.emulated, circle.emulated { stroke: var(--emulated); }
line.paravirtual, circle.paravirtual { stroke: var(--paravirtual); }
line.passthrough, circle.passthrough { stroke: var(--passthrough); }
.series { stroke-width: 2; } .whisker { stroke: var(--ink); stroke-width: 1.5; }
.axis { stroke: var(--rule); stroke-width: 1; }
.big { font-size: 1.9rem; font-weight: 650; line-height: 1.15; font-variant-numeric: tabular-nums; }
.name { border-left: 5px solid var(--rule); padding-left: 0.55rem; font-weight: 600; }
.name.emulated { border-color: var(--emulated); } .name.paravirtual { border-color: var(--paravirtual); }
.name.passthrough { border-color: var(--passthrough); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 0.9rem; }
th, td { text-align: left; padding: 0.4rem 0.7rem 0.4rem 0; border-bottom: 1px solid var(--rule);
  vertical-align: top; }
th { font-weight: 600; color: var(--soft); }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
tbody th { color: var(--ink); white-space: nowrap; }
.scroll th:first-child { position: sticky; left: 0; background: var(--paper); }
.again code { overflow-wrap: anywhere; }
.lecture td { width: 27%; } .lecture tbody th { white-space: normal; width: 19%; }
.lecture strong { display: block; }
.evidence { font-weight: 400; font-size: 0.85rem; color: var(--soft); overflow-wrap: anywhere; }
.differs { font-size: 0.85rem; border-left: 3px solid var(--emulated); padding-left: 0.5rem;
  margin-top: 0.35rem; }
.legend { display: flex; flex-wrap: wrap; gap: 0.2rem 1rem; font-size: 0.85rem; color: var(--soft);
  margin: 0 0 0.6rem; }
.legend span::before {
  content: ""; display: inline-block; width: 0.8em; height: 0.8em; border-radius: 2px; margin-right: 0.4em;
  background: var(--rule);
}
.legend .guest::before { background: var(--guest); } .legend .vmm::before { background: var(--vmm); }
.legend .iommu::before { background: var(--iommu); } .legend .nic::before { background: var(--nic); }
.legend .emulated::before { background: var(--emulated); }
.legend .paravirtual::before { background: var(--paravirtual); }
.legend .passthrough::before { background: var(--passthrough); }
.problem { color: var(--bad); font-weight: 600; }
code, pre { font: 0.88rem/1.5 ui-monospace, SFMono-Regular, Menlo, monospace; }
pre { background: var(--card); border: 1px solid var(--rule); border-radius: 6px;
  padding: 0.7rem 0.9rem; overflow-x: auto; }
@media (max-width: 42rem) {
  .scroll table { font-size: 0.76rem; }
  .scroll th.n { white-space: normal; }
  .scroll th, .scroll td { padding-right: 0.35rem; }
  .again, .again tbody, .again tr, .again th, .again td { display: block; border: 0; padding: 0; }
  .again tr { padding: 0.4rem 0; border-bottom: 1px solid var(--rule); }
  .again th { white-space: normal; }
  .lecture thead { display: none; }
  .lecture, .lecture tbody, .lecture tr, .lecture th, .lecture td { display: block;
    width: auto !important; border: 0; }
  .lecture tr { border-bottom: 1px solid var(--rule); padding: 0.6rem 0; }
  .lecture tbody th { font-size: 1.02rem; }
  .lecture td { padding: 0.35rem 0; }
  .lecture td::before { content: attr(data-method); color: var(--soft); font-size: 0.8rem; display: block; }
}
"""
