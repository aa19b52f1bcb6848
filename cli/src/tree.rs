//! A trace as an indented tree with bars.
//!
//! [`arrange`] makes a tree out of any spans: missing parents, several roots,
//! repeated ids, cycles and spans that are their own parent included. Every
//! span appears exactly once. [`render`] draws it. Neither recurses, so that
//! depth is no danger.

use std::collections::HashMap;
use std::fmt::Write as _;

use spanstore_format::SpanId;
use spanstore_format::span::Origin;

use crate::time;

/// What the tree shows of a span.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeSpan {
    /// Its id.
    pub span_id: SpanId,
    /// Its parent's id; none for a root.
    pub parent: Option<SpanId>,
    /// Its name.
    pub name: String,
    /// Who made it.
    pub origin: Origin,
    /// Its start in nanoseconds since 1970.
    pub start: i64,
    /// Its duration in nanoseconds; a negative one counts as 0.
    pub duration: i64,
    /// Whether it failed.
    pub error: bool,
}

/// Why a span stands where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// It has no parent.
    Root,
    /// It stands below its parent.
    Child,
    /// Its parent is not among the spans.
    Orphan,
    /// Its ancestors lead back to itself; the earliest of them stands on top.
    Cycle,
}

/// A line of the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node {
    /// Which span, as an index into what was arranged.
    pub span: usize,
    /// How many ancestors stand above it.
    pub depth: usize,
    /// Why it stands here.
    pub place: Place,
}

/// Puts spans into the order of a tree: each above its children, siblings and
/// roots by start, then by span id.
pub fn arrange(spans: &[TreeSpan]) -> Vec<Node> {
    let mut order: Vec<usize> = (0..spans.len()).collect();
    order.sort_by_key(|index| spans.get(*index).map(|span| (span.start, span.span_id)));

    // Of spans that share an id, the first is the parent of the children.
    let mut by_id = HashMap::with_capacity(spans.len());
    for &index in &order {
        if let Some(span) = spans.get(index) {
            by_id.entry(span.span_id).or_insert(index);
        }
    }

    let mut children: Vec<Vec<usize>> = vec![Vec::new(); spans.len()];
    let mut tops = Vec::new();
    for &index in &order {
        let Some(span) = spans.get(index) else {
            continue;
        };
        match span.parent.map(|parent| by_id.get(&parent).copied()) {
            None => tops.push((index, Place::Root)),
            Some(None) => tops.push((index, Place::Orphan)),
            Some(Some(parent)) => {
                if let Some(siblings) = children.get_mut(parent) {
                    siblings.push(index);
                }
            }
        }
    }

    let mut nodes = Vec::with_capacity(spans.len());
    let mut placed = vec![false; spans.len()];
    // What no root leads to hangs on a cycle.
    let cycles = order.iter().map(|index| (*index, Place::Cycle));
    for (top, place) in tops.into_iter().chain(cycles) {
        let mut stack = vec![Node {
            span: top,
            depth: 0,
            place,
        }];
        while let Some(node) = stack.pop() {
            match placed.get_mut(node.span) {
                Some(placed) if !*placed => *placed = true,
                _ => continue,
            }
            nodes.push(node);
            let below = children.get(node.span).into_iter().flatten().rev();
            stack.extend(below.map(|child| Node {
                span: *child,
                depth: node.depth + 1,
                place: Place::Child,
            }));
        }
    }
    nodes
}

const BAR_WIDTH: usize = 32;
/// How narrow bars and names become, where the terminal is narrow.
const LEAST_BAR_WIDTH: usize = 8;
const LEAST_LABEL_WIDTH: usize = 12;
/// What a line has beside name and bar: frame, duration, and the mark of an error.
const OTHER_WIDTH: usize = 24;
const NAME_WIDTH: usize = 56;
/// Deeper spans are drawn at this depth, with their depth as a number.
const DRAWN_DEPTH: usize = 16;

/// Draws a trace: name, a bar placed by offset and duration within the whole
/// trace, and duration. `▲` marks infrastructure, `✗` an error. Bars, then names, are shorter where
/// lines are to have `width` characters, as far as that goes.
pub fn render(spans: &[TreeSpan], width: Option<usize>) -> String {
    let begin = spans.iter().map(|span| span.start).min().unwrap_or(0);
    let end = spans
        .iter()
        .map(|span| span.start.saturating_add(span.duration.max(0)))
        .max();
    let extent = end.unwrap_or(begin).saturating_sub(begin);

    let lines: Vec<_> = arrange(spans)
        .into_iter()
        .filter_map(|node| {
            spans
                .get(node.span)
                .map(|span| (node, span, label(node, span)))
        })
        .collect();
    let longest = lines
        .iter()
        .map(|(_, _, label)| label.chars().count())
        .max()
        .unwrap_or(0);
    let room = width.map_or(usize::MAX, |width| width.saturating_sub(OTHER_WIDTH));
    let bar_width = room
        .saturating_sub(longest)
        .clamp(LEAST_BAR_WIDTH, BAR_WIDTH);
    let width = longest.min(room.saturating_sub(bar_width).max(LEAST_LABEL_WIDTH));

    let mut text = String::new();
    for (node, span, label) in lines {
        let duration = time::humanise(span.duration.max(0));
        let label = shorten(&label, width);
        let bar = bar(
            span.start.saturating_sub(begin),
            span.duration.max(0),
            extent,
            bar_width,
        );
        let mut line = format!("{label:<width$}  │{bar}│ {duration:>10}");
        if span.error {
            line.push_str("  ✗ error");
        }
        match (node.place, span.parent) {
            (Place::Orphan, Some(parent)) => {
                let _ = write!(line, "  (parent {parent} is missing)");
            }
            (Place::Cycle, _) => line.push_str("  (its own ancestor)"),
            _ => {}
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn label(node: Node, span: &TreeSpan) -> String {
    let mark = if span.origin == Origin::Infra {
        "▲ "
    } else {
        ""
    };
    let depth = if node.depth > DRAWN_DEPTH {
        format!("[{}] ", node.depth)
    } else {
        String::new()
    };
    let indent = 2 * node.depth.min(DRAWN_DEPTH);
    let name = shorten(&span.name, NAME_WIDTH);
    format!("{:indent$}{depth}{mark}{name}", "")
}

/// A bar of this width; the shortest span still shows.
fn bar(offset: i64, duration: i64, extent: i64, width: usize) -> String {
    let cell = |nanos: i64| {
        let part = nanos as f64 / (extent.max(1)) as f64;
        ((part * width as f64).round() as usize).min(width)
    };
    let from = cell(offset).min(width - 1);
    let to = cell(offset.saturating_add(duration)).max(from + 1);
    let drawn = if duration == 0 { "╵" } else { "█" }.repeat(to - from);
    format!("{:from$}{drawn}{:rest$}", "", "", rest = width - to)
}

/// At most `width` characters, and none that a terminal would obey.
pub fn shorten(text: &str, width: usize) -> String {
    let mut characters = text
        .chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c });
    let mut short: String = characters.by_ref().take(width).collect();
    if characters.next().is_some() {
        short.pop();
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests;
