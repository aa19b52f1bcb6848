use proptest::prelude::*;

use super::*;

fn span(id: u64, parent: u64, start: i64, duration: i64) -> TreeSpan {
    let id_of = |number: u64| SpanId(number.to_be_bytes());
    TreeSpan {
        span_id: id_of(id),
        parent: (parent != 0).then(|| id_of(parent)),
        name: format!("span {id}"),
        origin: Origin::User,
        start,
        duration,
        error: false,
    }
}

/// Name and depth of every line.
fn outline(spans: &[TreeSpan]) -> Vec<(&str, usize, Place)> {
    arrange(spans)
        .into_iter()
        .map(|node| (spans[node.span].name.as_str(), node.depth, node.place))
        .collect()
}

#[test]
fn children_stand_below_their_parents_by_start_then_id() {
    let spans = [
        span(4, 2, 30, 1),
        span(3, 1, 20, 1),
        span(5, 1, 10, 9),
        span(2, 1, 10, 9),
        span(1, 0, 0, 99),
    ];
    assert_eq!(
        outline(&spans),
        [
            ("span 1", 0, Place::Root),
            ("span 2", 1, Place::Child),
            ("span 4", 2, Place::Child),
            ("span 5", 1, Place::Child),
            ("span 3", 1, Place::Child),
        ]
    );
}

#[test]
fn orphans_cycles_and_repeated_ids_have_their_places() {
    let spans = [
        span(1, 1, 5, 1),
        span(2, 3, 6, 1),
        span(3, 2, 7, 1),
        span(4, 99, 8, 1),
        span(5, 4, 9, 1),
        span(4, 0, 10, 1),
    ];
    assert_eq!(
        outline(&spans),
        [
            ("span 4", 0, Place::Orphan),
            ("span 5", 1, Place::Child),
            ("span 4", 0, Place::Root),
            ("span 1", 0, Place::Cycle),
            ("span 2", 0, Place::Cycle),
            ("span 3", 1, Place::Child),
        ]
    );
    let text = render(&spans, None);
    assert!(
        text.contains("(parent 0000000000000063 is missing)"),
        "{text}"
    );
    assert!(text.contains("(its own ancestor)"), "{text}");
}

#[test]
fn a_drawing() {
    let mut spans = vec![
        span(1, 0, 0, 32_000),
        span(2, 1, 8_000, 16_000),
        span(3, 2, 32_000, 0),
    ];
    spans[0].origin = Origin::Infra;
    spans[1].error = true;
    spans[2].name = "\u{1b}[2J".into();
    let expected = "\
▲ span 1  │████████████████████████████████│    32.0 µs
  span 2  │        ████████████████        │    16.0 µs  ✗ error
    \u{fffd}[2J  │                               ╵│       0 ns
";
    assert_eq!(render(&spans, None), expected);
    assert_eq!(render(&[], None), "");
}

#[test]
fn a_hundred_thousand_levels_are_drawn() {
    let spans: Vec<_> = (1..=100_000).map(|id| span(id, id - 1, 5, 5)).collect();
    let text = render(&spans, None);
    assert_eq!(text.lines().count(), 100_000);
    assert!(text.lines().last().unwrap().contains("[99999] span 100000"));
    assert!(text.len() < 40_000_000);
}

#[test]
fn extreme_times_are_drawn() {
    let spans = [
        span(1, 0, i64::MIN, i64::MAX),
        span(2, 1, i64::MAX, i64::MAX),
        span(3, 1, 0, -5),
    ];
    assert_eq!(render(&spans, None).lines().count(), 3);
}

#[test]
fn long_names_are_shortened() {
    assert_eq!(shorten("abcdef", 6), "abcdef");
    assert_eq!(shorten("abcdefg", 6), "abcde…");
    assert_eq!(shorten("äöüß\n", 5), "äöüß\u{fffd}");
}

proptest! {
    #[test]
    fn every_span_appears_once_and_below_its_parent(
        links in prop::collection::vec((1_u64..20, 0_u64..22, 0_i64..50), 0..40)
    ) {
        let spans: Vec<_> =
            links.iter().map(|(id, parent, start)| span(*id, *parent, *start, 1)).collect();
        let nodes = arrange(&spans);
        let mut seen: Vec<_> = nodes.iter().map(|node| node.span).collect();
        seen.sort_unstable();
        prop_assert_eq!(seen, (0..spans.len()).collect::<Vec<_>>());

        let mut path: Vec<&TreeSpan> = Vec::new();
        for node in &nodes {
            path.truncate(node.depth);
            let span = &spans[node.span];
            match node.place {
                Place::Child => prop_assert_eq!(Some(path[node.depth - 1].span_id), span.parent),
                Place::Root => prop_assert!(node.depth == 0 && span.parent.is_none()),
                Place::Orphan => prop_assert!(spans.iter().all(|other| Some(other.span_id) != span.parent)),
                Place::Cycle => prop_assert_eq!(node.depth, 0),
            }
            path.push(span);
        }
    }

    #[test]
    fn the_order_of_the_input_does_not_matter(
        links in prop::collection::vec((0_u64..22, 0_i64..50), 0..20).prop_shuffle(),
        rotation in 0_usize..20,
    ) {
        let spans: Vec<_> = (1..).zip(&links).map(|(id, (parent, start))| span(id, *parent, *start, 1)).collect();
        let mut rotated = spans.clone();
        if !rotated.is_empty() {
            let by = rotation % rotated.len();
            rotated.rotate_left(by);
        }
        prop_assert_eq!(render(&spans, None), render(&rotated, None));
    }
}

#[test]
fn lines_are_as_narrow_as_the_terminal() {
    let mut spans = [span(1, 0, 0, 99), span(2, 1, 10, 9), span(3, 2, 10, 9)];
    spans[1].name = "a name that is rather long for a terminal".into();
    spans[2].error = true;
    for width in [40, 60, 80, 100] {
        let text = render(&spans, Some(width));
        let longest = text.lines().map(|line| line.chars().count()).max();
        assert!(longest <= Some(width.max(44)), "{width}:\n{text}");
        assert!(text.contains("█") && text.contains("✗ error"), "{text}");
    }
    let wide = render(&spans, Some(200));
    assert_eq!(wide, render(&spans, None));
}
