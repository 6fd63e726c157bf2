"""Results of an evaluation as one HTML page that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from perlsim.evaluation.metrics import METRICS, cell
from perlsim.evaluation.report import groups_of, metrics_of, ranked, realism_rows, realism_title

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 90rem; padding: 0 1rem; color: #222; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap; }
th { cursor: pointer; vertical-align: bottom; white-space: normal; min-width: 5rem; background: #f6f6f6; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: #fff; }
th.sorted { text-decoration: underline; }
td small { color: #777; display: block; }
td.best { font-weight: 600; background: #eef7ee; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0 1rem; } dt { color: #777; } dd { margin: 0; }
"""

# A click on a heading sorts its table by that column, better first; a second click turns it round.
_SCRIPT = """
for (const table of document.querySelectorAll('table')) {
  table.querySelectorAll('th').forEach((head, column) => head.addEventListener('click', () => {
    const again = head.classList.contains('sorted') && head.dataset.turned !== 'yes';
    table.querySelectorAll('th').forEach(other => other.classList.remove('sorted'));
    head.classList.add('sorted');
    head.dataset.turned = again ? 'yes' : 'no';
    const sign = (head.dataset.better === 'low' ? 1 : -1) * (again ? -1 : 1);
    const value = row => row.cells[column].dataset.value;
    const rows = [...table.tBodies[0].rows].sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      if (column === 0) return (again ? -1 : 1) * x.localeCompare(y);
      if (x === '' || y === '') return (x === '') - (y === '');
      return sign * (x - y);
    });
    table.tBodies[0].append(...rows);
  }));
}
"""


def page_of(results: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    """The page.

    Args:
        results: of `perlsim.evaluation.report.results_of`.
        facts: shown at the top: store, agents, command and so on.
    """
    tables = "".join(_table(results, *group) for group in groups_of(results)) + _realism(results)
    listed = "".join(f"<dt>{escape(name)}</dt><dd>{escape(str(value))}</dd>" for name, value in facts.items())
    notes = "".join(f"<li>{escape(note)}</li>" for note in results["notes"])
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width'><title>perlsim eval</title>"
        f"<link rel='icon' href='data:,'><style>{_STYLE}</style></head><body><h1>Policies scored</h1>"
        f"<dl>{listed}</dl>{tables}"
        "<p>Means with 95 % bootstrap intervals that draw whole recordings. A heading sorts by its column. "
        "* privileged: sees the whole state, or the future. n: scenes with a value, where not all have one.</p>"
        f"<ul>{notes}</ul><script>{_SCRIPT}</script></body></html>\n"
    )


def _table(results: Mapping[str, Any], source: str | None, title: str, count: int) -> str:
    names = ranked(results, source)
    of_policy = {name: metrics_of(results, name, source) for name in names}
    shown = [metric for metric in METRICS if any(metric.key in own for own in of_policy.values())]
    best = {metric.key: _best(metric, of_policy) for metric in shown}
    heads = "".join(
        f"<th data-better='{'low' if metric.higher_is_better is False else 'high'}' "
        f"title='{escape(metric.group, quote=True)}'>{escape(metric.label)}</th>"
        for metric in shown
    )
    rows = ""
    for name in names:
        mark = "*" if results["policies"][name]["privileged"] else ""
        rows += f"<tr><td data-value='{escape(name, quote=True)}'>{escape(name)}{mark}</td>"
        for metric in shown:
            entry = of_policy[name].get(metric.key)
            mean = None if entry is None else entry["mean"]
            text, _, rest = cell(metric, entry, count).partition(" ")
            chosen = " class='best'" if mean is not None and mean == best[metric.key] else ""
            value = "" if mean is None else repr(mean)
            rows += f"<td data-value='{value}'{chosen}>{text}<small>{escape(rest)}</small></td>"
        rows += "</tr>"
    return (
        f"<h2>{escape(title)}</h2><div class='scroll'><table><thead><tr><th>policy</th>{heads}</tr></thead>"
        f"<tbody>{rows}</tbody></table></div>"
    )


def _realism(results: Mapping[str, Any]) -> str:
    rows = realism_rows(results)
    if not rows:
        return ""
    body = "".join(
        f"<tr><td data-value='{escape(name, quote=True)}'>{escape(name)}</td>"
        f"<td data-value='{'' if text == 'n/a' else text}'>{text}</td></tr>"
        for name, text in rows
    )
    return (
        f"<h2>{escape(realism_title(results))}</h2><div class='scroll'><table><thead><tr><th>likelihood of the log</th>"
        f"<th data-better='high'>value</th></tr></thead><tbody>{body}</tbody></table></div>"
    )


def _best(metric, of_policy: Mapping[str, Mapping[str, dict]]) -> float | None:
    """The best mean of a metric, None where there is no better."""
    means = [own[metric.key]["mean"] for own in of_policy.values() if metric.key in own]
    means = [mean for mean in means if mean is not None]
    if metric.higher_is_better is None or len(means) < 2:
        return None
    return max(means) if metric.higher_is_better else min(means)
