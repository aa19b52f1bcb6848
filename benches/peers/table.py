"""The figures as a Markdown table, and as JSON."""

import json

SPANSTORE = "spanstore"


def percentile(nanos, part):
    """The figure that this part of the runs does not exceed, in milliseconds."""
    ordered = sorted(nanos)
    place = max(0, -(-len(ordered) * part // 100) - 1)
    return ordered[place] / 1e6


def milliseconds(figure):
    """A figure with three digits that count."""
    return f"{figure:.0f}" if figure >= 100 else f"{figure:.3g}"


def fastest_peer(medians):
    """The least median of those that are not spanstore's."""
    return min((median for name, median in medians.items() if name != SPANSTORE), default=None)


def markdown(report):
    """The whole report."""
    lines = [f"- {name}: {value}" for name, value in report["facts"].items()]
    lines += ["", "Bytes a span: " + ", ".join(
        f"{name} {size / report['spans']:.1f}" for name, size in report["bytes"].items()) + "."]
    lines += ["", "Milliseconds, warm: median and 99th percentile."]
    for rows in ("spans", "requests"):
        asked = [question for question in report["questions"] if question["about"] == rows]
        systems = [name for name in report["systems"]
                   if any(name in question["nanos"] for question in asked)]
        if asked:
            lines += ["", f"About {rows}:", "", *warm_table(asked, systems, report["runs"])]
    if any(question["cold"] for question in report["questions"]):
        lines += ["", "Milliseconds, cold: opening and the first answer in a process of its own, "
                  f"files out of the page cache, median of {report['cold_runs']}.", ""]
        cold = [question for question in report["questions"] if question["cold"]]
        systems = [name for name in report["systems"] if any(name in one["cold"] for one in cold)]
        lines += cold_table(cold, systems)
    return "\n".join(lines) + "\n"


def warm_table(questions, systems, runs):
    heads = ["question"]
    for system in systems:
        heads += [system, "99 %"]
    if SPANSTORE in systems:
        heads.append("spanstore ÷ fastest peer")
    yield row(heads)
    yield row(["---"] + ["---:"] * (len(heads) - 1))
    for question in questions:
        medians = {name: percentile(nanos, 50) for name, nanos in question["nanos"].items()}
        best = min(medians.values())
        mark = "" if question["is_equal"] else " **(answers differ)**"
        cells = [question["name"] + mark]
        for system in systems:
            if system not in medians:
                cells += ["", ""]
                continue
            nanos, median = question["nanos"][system], medians[system]
            text = milliseconds(median)
            text = f"**{text}**" if median == best else text
            fewer = f" ({len(nanos)} runs)" if len(nanos) < runs else ""
            cells += [text, milliseconds(percentile(nanos, 99)) + fewer]
        peer = fastest_peer(medians)
        if SPANSTORE in systems:
            cells.append(f"{medians[SPANSTORE] / peer:.2g}" if peer else "")
        yield row(cells)


def cold_table(questions, systems):
    yield row(["question", *systems])
    yield row(["---"] + ["---:"] * len(systems))
    for question in questions:
        figures = [milliseconds(percentile(question["cold"][name], 50)) for name in systems]
        yield row([question["name"], *figures])


def row(cells):
    return "| " + " | ".join(cells) + " |"


def write(report, directory):
    """Writes both forms, and prints the table."""
    text = markdown(report)
    (directory / "report.md").write_text(text)
    (directory / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    print(text)
