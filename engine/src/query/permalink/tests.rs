use proptest::prelude::*;

use super::*;

fn list(text: &str) -> ListView {
    match text.parse() {
        Ok(View::List(list)) => list,
        other => panic!("{text}: {other:?}"),
    }
}

/// Where a text goes wrong, and what was expected there.
fn wrong(text: &str) -> (usize, &'static str) {
    let error = text.parse::<View>().unwrap_err();
    (error.position, error.expected)
}

#[test]
fn every_field_has_its_place() {
    let list = View::List(ListView {
        rows: Rows::Requests,
        filter: "path = '/é?a=b&c#%' or level = 'error'".into(),
        since: Some(-1),
        until: Some(i64::MAX),
        order: Order::MostErrorsFirst,
        columns: vec!["start_time".into(), "a,b".into(), String::new()],
    });
    let text = "requests?filter=path%20%3D%20%27%2F%C3%A9%3Fa%3Db%26c%23%25%27%20or%20level%20%3D%20\
                %27error%27&since=-1&until=9223372036854775807&order=errors&\
                columns=start_time,a%2Cb,";
    assert_eq!(list.to_string(), text);
    assert_eq!(text.parse(), Ok(list));
    let trace = View::Trace(TraceView {
        trace: TraceId([0x5b; 16]),
        view: "tree/2".into(),
        span: Some(SpanId([7; 8])),
    });
    let text = format!(
        "trace/{}?view=tree%2F2&span={}",
        "5b".repeat(16),
        "07".repeat(8)
    );
    assert_eq!(trace.to_string(), text);
    assert_eq!(text.parse(), Ok(trace));
}

#[test]
fn what_is_as_usual_is_not_written() {
    for text in ["spans", "requests", &format!("trace/{}", "ab".repeat(16))] {
        assert_eq!(text.parse::<View>().unwrap().to_string(), text);
    }
    assert_eq!(
        list("spans?order=newest&filter="),
        ListView::new(Rows::Spans)
    );
}

#[test]
fn reading_takes_what_a_person_writes() {
    let written = list("spans?order=oldest&filter=name = 'é'&since=+0%35");
    let text = "spans?filter=name%20%3D%20%27%C3%A9%27&since=5&order=oldest";
    assert_eq!(written.to_string(), text);
    assert_eq!(list("spans?filter=a%2fb").filter, "a/b");
    let trace: View = "trace/1F?span=2".parse().unwrap();
    let text = format!("trace/{:032x}?span={:016x}", 0x1f, 2);
    assert_eq!(trace.to_string(), text);
}

#[test]
fn an_error_says_where_and_what_was_expected() {
    let kinds = "`spans`, `requests`, `sessions` or `trace/` and an id";
    let of_lists = "filter, since, until, order or columns, then `=`";
    let field = "a field: its name, `=` and its value";
    let escape = "two hexadecimal digits after `%`";
    for (text, expected) in [
        ("", (0, kinds)),
        ("Spans", (0, kinds)),
        ("span?filter=a", (0, kinds)),
        ("traces/1", (0, kinds)),
        ("spans?", (6, field)),
        ("spans?filter=a&", (15, field)),
        ("spans?filter", (6, field)),
        ("spans?limit=5", (6, of_lists)),
        ("spans?since=5&view=tree", (14, of_lists)),
        ("spans?since=5&since=5", (14, "each field once")),
        ("spans?since=", (12, "a time, ns since 1970")),
        ("spans?until=1h", (12, "a time, ns since 1970")),
        (
            "spans?until=9223372036854775808",
            (12, "a time, ns since 1970"),
        ),
        (
            "spans?order=worst",
            (12, "newest, oldest, slowest, fastest, spans or errors"),
        ),
        ("spans?filter=a%2", (15, escape)),
        ("spans?filter=a%%41", (15, escape)),
        ("spans?filter=%+1", (14, escape)),
        ("spans?columns=a,b%é", (18, escape)),
        ("spans?columns=a,%C3", (16, "bytes that are UTF-8")),
        (
            "trace/",
            (6, "the id of a trace, 32 hexadecimal digits, not all zero"),
        ),
        (
            "trace/00",
            (6, "the id of a trace, 32 hexadecimal digits, not all zero"),
        ),
        (
            "trace/1?span=x",
            (13, "the id of a span, 16 hexadecimal digits, not all zero"),
        ),
        ("trace/1?filter=a", (8, "view or span, then `=`")),
    ] {
        assert_eq!(wrong(text), expected, "{text}");
    }
    let error = format!("spans?until={}\n", "9".repeat(50))
        .parse::<View>()
        .unwrap_err();
    assert_eq!(error.found.chars().count(), 41);
}

fn views() -> impl Strategy<Value = View> {
    let text = || prop_oneof![any::<String>(), "[ %&=,?#/'a-c+~é]{0,9}"];
    let rows = prop_oneof![Just(Rows::Spans), Just(Rows::Requests)];
    let order = (0..ORDERS.len()).prop_map(|place| ORDERS[place].0);
    let columns = prop::collection::vec(text(), 0..4);
    let lists = (rows, text(), any::<[Option<i64>; 2]>(), order, columns);
    let lists = lists.prop_map(|(rows, filter, [since, until], order, columns)| {
        View::List(ListView {
            rows,
            filter,
            since,
            until,
            order,
            columns,
        })
    });
    let traces = (1..=u128::MAX, text(), prop::option::of(1..=u64::MAX));
    let traces = traces.prop_map(|(trace, view, span)| {
        View::Trace(TraceView {
            trace: TraceId(trace.to_be_bytes()),
            view,
            span: span.map(|span| SpanId(span.to_be_bytes())),
        })
    });
    prop_oneof![lists, traces]
}

proptest! {
    /// Nothing is lost, so different views have different texts; and all characters may stand
    /// in the fragment of a URL (RFC 3986, 3.5).
    #[test]
    fn a_view_comes_back_from_its_text(view in views()) {
        let text = view.to_string();
        let may_stand = |c: char| c.is_ascii_alphanumeric() || "-._~%/?&=,".contains(c);
        prop_assert!(text.chars().all(may_stand), "{}", text);
        prop_assert_eq!(text.parse(), Ok(view));
    }

    /// A text is refused at a place in it, or stands for a view whose text is canonical.
    #[test]
    fn any_text_is_a_view_or_an_error(
        head in prop_oneof![Just("spans?"), Just("requests?"), Just("trace/1?"), Just("")],
        rest in prop_oneof![
            any::<String>(),
            "((filter|since|order|columns|view|span)=(newest|1|%4[0-9a-g]|[%,+é=]){0,3}&?){0,4}",
        ],
    ) {
        let text = format!("{head}{rest}");
        match text.parse::<View>() {
            Ok(view) => prop_assert_eq!(view.to_string().parse(), Ok(view)),
            Err(error) => prop_assert!(text.is_char_boundary(error.position), "{}", error),
        }
    }
}
