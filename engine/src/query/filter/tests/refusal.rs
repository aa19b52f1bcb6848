//! What filters refuse, and where.

use super::*;

/// Refused at `position`, in words that hold `part`.
fn refused(text: &str, position: usize, part: &str) {
    match parse(text) {
        Ok(filter) => panic!("{text} is {:?}", filter.expr()),
        Err(error) => {
            assert_eq!(error.position(), position, "{}", error.render(text));
            let sentence = error.to_string();
            assert!(sentence.contains(part), "{sentence:?} lacks {part:?}");
        }
    }
}

#[test]
fn nothing_but_conditions() {
    for (text, position, part) in [
        ("", 0, "the end of the filter"),
        ("  ", 2, "the end of the filter"),
        ("name", 0, "a condition, found a text"),
        ("'a'", 0, "a condition, found the text 'a'"),
        ("1", 0, "a condition"),
        ("null", 0, "a condition"),
        ("status_code", 0, "a condition, found a status code"),
        ("attributes['a']", 0, "a condition"),
        ("not name", 4, "a condition"),
        ("name is true", 0, "a condition"),
        ("name =", 6, "the end of the filter"),
        ("name = 'a' name", 11, "`and`, `or` or the end"),
        ("name = 'a' = 'b'", 11, "`and`, `or` or the end"),
        ("cold_start is null is null", 19, "`and`, `or` or the end"),
        ("(cold_start", 11, "`)`"),
        ("cold_start)", 10, "found `)`"),
        ("cold_start is 5", 14, "`null`, `true` or `false`"),
        ("name not = 'a'", 9, "`in`, `between`, `like` or `ilike`"),
        ("name between 'a'", 16, "`and` of `between`"),
        ("name like", 9, "a pattern"),
        ("name like kind", 10, "a pattern"),
        ("name like 'a' escape 'bc'", 21, "one character"),
        ("name ~ 'a('", 7, "unclosed group"),
        ("name in ()", 9, "a literal"),
        ("name in (kind)", 9, "a literal"),
        ("name in 'a'", 8, "`(`"),
        ("name = 'a", 7, "a closing '"),
        ("\"name = 'a'", 0, "a closing \""),
        ("and", 0, "a column, a literal or a condition, found `and`"),
        ("order = 1", 0, "unknown column `order`"),
    ] {
        refused(text, position, part);
    }
}

#[test]
fn nothing_of_other_tables_or_teams() {
    for (text, position, part) in [
        ("1=1 or team_id='other'", 0, "a column on one side"),
        (
            "cold_start or team_id='other'",
            14,
            "unknown column `team_id`",
        ),
        ("TEAM_ID = 'x'", 0, "unknown column"),
        ("\"team_id\" = 'x'", 0, "unknown column"),
        ("lower(team_id) = 'x'", 6, "unknown column"),
        ("team_id is not null", 0, "unknown column"),
        ("resource_attributes is null", 0, "unknown column"),
        ("\"Name\" = 'x'", 0, "unknown column"),
        ("exists (select 1)", 0, "one of the functions"),
        ("name in (select name from spans)", 9, "a literal"),
        ("status_code = (select 1)", 22, "`)`"),
        ("information_schema.tables = 1", 18, "found ."),
        ("spans.name = 'a'", 5, "found ."),
        ("read_parquet('x')", 0, "one of the functions"),
        ("repeat('a', 2000000000) = 'a'", 0, "one of the functions"),
        ("regexp_like(name, 'a')", 0, "one of the functions"),
        ("now() > start_time", 0, "one of the functions"),
        ("cast(name as int) = 1", 0, "one of the functions"),
        ("name::int = 1", 4, "found `:`"),
        ("cold_start; drop table spans", 10, "found `;`"),
        ("cold_start -- comment", 11, "without comments"),
        ("cold_start /* comment */", 11, "without comments"),
        ("status_code --5", 12, "without comments"),
        ("name = $1", 7, "found `$`"),
        ("name = ?", 7, "found `?`"),
        ("name = @@version", 7, "found `@`"),
        ("name = '{}' || 'b'", 12, "found `|`"),
        (
            "case when cold_start then true end",
            5,
            "`and`, `or` or the end",
        ),
        ("duration + 1 = 2", 9, "found `+`"),
        ("duration / 0 = 2", 9, "found `/`"),
        ("duration - 1 = 2", 9, "`and`, `or` or the end"),
        ("name = e'a'", 8, "`and`, `or` or the end"),
        ("name = \u{202e}'a'", 7, "expected a column"),
    ] {
        refused(text, position, part);
    }
}

#[test]
fn nothing_of_an_event_but_what_it_has() {
    let over = |rows, text: &str| Filter::over(rows, text, &FilterLimits::default());
    for (text, position, part) in [
        ("any_event()", 10, "a condition"),
        ("any_event(name)", 10, "a condition, found a text"),
        ("any_event(name = 'a'", 20, "`)`"),
        ("any_event(nam = 'a')", 10, "such as name"),
        ("any_event(status_code = 5)", 10, "name, time, attributes"),
        (
            "any_event(status_class(5))",
            23,
            "unknown column `status_code`",
        ),
        ("any_event(time = 'now')", 17, "a time"),
        (
            "any_event(attributes is null)",
            10,
            "a key, as in attributes['key']",
        ),
        (
            "any_event(resource['a'] = 'b')",
            10,
            "`attributes`, which an event has",
        ),
        (
            "any_event(has(resource, 'a'))",
            14,
            "`attributes`, which an event has",
        ),
        ("any_event(search('a'))", 10, "a condition on one event"),
        (
            "any_event(any_event(name = 'a'))",
            10,
            "a condition on one event",
        ),
        ("any_event(any(name = 'a'))", 10, "a condition on one event"),
        (
            "any_evnt(name = 'a')",
            0,
            "a function, such as any_event, found",
        ),
        ("any_event = 5", 0, "unknown column `any_event`"),
        ("\"any_event\"(name = 'a')", 11, "`and`, `or` or the end"),
        ("any_event(name = 'a', name = 'b')", 20, "`)`"),
        ("any_event(name = 'a') > 5", 24, "`true` or `false`"),
    ] {
        refused(text, position, part);
    }
    let of_requests = over(Rows::Requests, "spans > 5 and any_event(name = 'a')").unwrap_err();
    assert_eq!(of_requests.position(), 14);
    assert!(
        of_requests.to_string().contains("any(any_event("),
        "{of_requests}"
    );
    assert!(over(Rows::Requests, "any(any_event(name = 'a'))").is_ok());
    let of_sessions = over(Rows::Sessions, "any_event(name = 'a')").unwrap_err();
    assert!(
        of_sessions.to_string().contains("columns of a session"),
        "{of_sessions}"
    );
    // What stands within counts as what stands without.
    let deep = format!("any_event({}name = 'a'{})", "(".repeat(64), ")".repeat(64));
    refused(&deep, 73, "nested deeper than 64 levels");
    let few = FilterLimits {
        nodes: 20,
        ..FilterLimits::default()
    };
    let many = format!("any_event({}true)", "true or ".repeat(10));
    let error = Filter::parse(&many, &few).unwrap_err();
    assert!(
        matches!(error, FilterError::TooManyNodes { limit: 20, .. }),
        "{error}"
    );
    let long = format!("any_event(contains(name, '{}'))", "x".repeat(1_025));
    assert!(matches!(
        parse(&long),
        Err(FilterError::PatternTooLong { position: 25, .. })
    ));
}

#[test]
fn nothing_of_the_wrong_type() {
    for (text, position, part) in [
        ("path = 5", 7, "a text in single quotes, found the number 5"),
        ("5 = path", 0, "a text in single quotes"),
        ("name = true", 7, "a text in single quotes"),
        ("name = null", 7, "`is null`"),
        ("name in ('a', null)", 14, "`is null`"),
        ("name in ('a', 1)", 14, "a text in single quotes"),
        ("name ~ 5", 7, "a regular expression"),
        ("duration like 'a'", 0, "a text column, found a duration"),
        ("duration = '5 parsecs'", 11, "a duration"),
        ("duration = 1.5", 11, "a duration"),
        ("start_time > 'yesterday'", 13, "a time"),
        ("start_time > '2026-02-30'", 13, "a time"),
        ("start_time > 1.5", 13, "a time"),
        ("status_code = 'ok'", 14, "a status code"),
        ("status_code > '5xx'", 14, "`=` or `!=`"),
        ("status_code = 3000000000", 14, "an integer of 32 bits"),
        ("status_code = 1.0", 14, "a status code"),
        ("flags = -1", 8, "an integer from 0"),
        ("duration = 9223372036854775808", 11, "fits 64 bits"),
        ("attributes['a'] = 1e999", 18, "a number below"),
        ("attributes['a'] = 1x", 18, "a number, or a text"),
        ("attributes['a'] = 1.2.3", 18, "a number, or a text"),
        ("attributes['a'] = - 'a'", 20, "a number after"),
        ("attributes['a'] > true", 18, "`=` or `!=`"),
        ("cold_start = 'true'", 13, "`true` or `false`"),
        ("cold_start > false", 13, "`=` or `!=`"),
        ("trace_id = 'xyz'", 11, "32 hexadecimal digits"),
        ("trace_id = '00'", 11, "not all zero"),
        (
            "trace_id = '112233445566778899aabbccddeeff0011'",
            11,
            "32 hexadecimal digits",
        ),
        ("span_id in ('1', '0')", 17, "16 hexadecimal digits"),
        ("trace_id < '1f'", 11, "`=` or `!=`"),
        ("trace_id between '1' and '2'", 17, "`=` or `!=`"),
        ("trace_id = 5", 11, "an id in single quotes"),
        (
            "trace_id = span_id",
            11,
            "something to compare with a trace id, found a span id",
        ),
        ("span_id < parent_span_id", 10, "`=` or `!=`"),
        ("name = status_code", 7, "something to compare with a text"),
        (
            "duration = start_time",
            11,
            "something to compare with a duration",
        ),
        ("events = 'a'", 9, "no literal"),
        ("events = links", 9, "something to compare with"),
        ("attributes is null", 0, "a key"),
        ("attributes = 'a'", 0, "a key"),
        ("attributes[5] = 'a'", 11, "a key in single quotes"),
        ("name['a'] = 'a'", 0, "which have keys"),
        ("resource['a']['b'] = 'a'", 13, "`and`, `or` or the end"),
        ("has(name, 'a')", 4, "which have keys"),
        ("has(x)", 4, "a text in single quotes, found `x`"),
        ("has(attributes)", 4, "single quotes, found `attributes`"),
        ("search(\"x\")", 7, "single quotes, found \"x\""),
        ("search(lower(name))", 7, "single quotes, found `lower(…)`"),
        ("search(name = 'a')", 12, "`)`"),
        ("has('a', 'b', 'c')", 0, "a key in single quotes"),
        (
            "status_class(7)",
            13,
            "from 1 to 5, such as status_class(5), found the number 7",
        ),
        ("status_class('5xx')", 13, "found the text '5xx'"),
        ("status_class(status_code)", 13, "found `status_code`"),
        ("status_class(4, 5)", 0, "from 1 to 5"),
        ("status_class(5) = 5", 18, "`true` or `false`"),
        ("has('attributes', 'a')", 0, "`attributes` or `resource`"),
        ("has(attributes, name)", 16, "a text in single quotes"),
        (
            "lower(name, name) = 'a'",
            0,
            "one text column, found 2 arguments",
        ),
        ("lower('A') = 'a'", 6, "a column"),
        ("lower(duration) = 'a'", 6, "a text column"),
        ("lower(name)", 0, "a condition"),
        ("lower() = 'a'", 6, "a column, a literal or a condition"),
        ("contains(name, kind)", 15, "a text in single quotes"),
        ("starts_with(name, 5)", 18, "a text in single quotes"),
    ] {
        refused(text, position, part);
    }
}

#[test]
fn no_value_that_a_column_cannot_have() {
    const LEVELS: &str = "one of 'info', 'warning', 'error', 'fatal'";
    for (text, position, part) in [
        (
            "level = 'eror'",
            8,
            ", such as 'error', found the text 'eror'",
        ),
        ("level = 'eror'", 8, LEVELS),
        ("level != 'ERROR'", 9, "such as 'error'"),
        ("level in ('info', 'warn')", 18, "such as 'warning'"),
        (
            "level >= 'critical'",
            9,
            "'fatal', found the text 'critical'",
        ),
        ("level between 'info' and 'errors'", 25, "such as 'error'"),
        ("'eror' = level", 0, "such as 'error'"),
        ("level < name", 8, "`=` or `!=`"),
        ("level = 5", 8, "a text in single quotes"),
        ("any_event(true) and kind = 'sever'", 27, "such as 'server'"),
        ("kind > 'zzz'", 7, "'producer', 'consumer', found"),
        ("kind = '2'", 7, "'server'"),
        (
            "status = 'OK'",
            9,
            "one of 'unset', 'ok', 'error', such as 'ok'",
        ),
        ("origin = 'infrastructure'", 9, "such as 'infra'"),
    ] {
        refused(text, position, part);
    }
    for free in [
        "level like 'eror%'",
        "level ~ 'eror'",
        "lower(level) = 'eror'",
        "starts_with(level, 'eror')",
        "attributes['level'] = 'eror'",
        "any_event(name = 'eror')",
        "environment = 'staging'",
        "method = 'get'",
        "status_code = '6xx'",
        "status = '3'",
    ] {
        assert!(parse(free).is_ok(), "{free}");
    }
    for (rows, text, position, part) in [
        (Rows::Requests, "level > 'eror'", 8, "such as 'error'"),
        (Rows::Requests, "origin = 'usr'", 9, "such as 'user'"),
        (
            Rows::Requests,
            "any(kind = 'sever')",
            11,
            "such as 'server'",
        ),
        (
            Rows::Sessions,
            "kind = 'server'",
            7,
            "'session', 'page_trace'",
        ),
        (
            Rows::Sessions,
            "state = 'Open'",
            8,
            "'open', 'stopped', such as 'open'",
        ),
        (
            Rows::Sessions,
            "environment = 'prod'",
            14,
            "such as 'production'",
        ),
    ] {
        let error = Filter::over(rows, text, &FilterLimits::default()).unwrap_err();
        assert_eq!(error.position(), position, "{}", error.render(text));
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[test]
fn unknown_columns_name_their_neighbours() {
    let sentence = |text| parse(text).unwrap_err().to_string();
    assert!(sentence("durration > 1").contains("a column, such as duration"));
    assert!(sentence("session = 'a'").contains("such as session_id"));
    assert!(sentence("statuscode = 5").contains("status_code"));
    let some = sentence("zzzzzzzz = 1");
    assert!(
        some.contains(" columns, such as trace_id, span_id, "),
        "{some}"
    );
    assert!(some.len() < 150 && !some.contains("team_id"), "{some}");
    // What is far too long costs no time and is not quoted whole.
    assert!(sentence(&format!("{} = 1", "q".repeat(10_000))).len() < 1000);
}

#[test]
fn a_text_without_its_quotes_is_known_as_one() {
    for (text, position, part) in [
        (
            "level = error",
            8,
            "a text in single quotes, such as 'error', ",
        ),
        ("kind = \"server\"", 7, "such as 'server', found \"server\""),
        ("attributes['a'] != b", 19, "such as 'b', found `b`"),
        ("duration between '1ms' and fast", 27, "such as 'fast'"),
        ("name = servce", 7, "'servce', or a column, such as service"),
        (
            "level in (error)",
            10,
            "texts stand in single quotes, found `error`",
        ),
        ("any_event(name = exception)", 17, "such as 'exception'"),
        // No text can stand there.
        ("cold_start = yes", 13, "unknown column `yes`"),
    ] {
        refused(text, position, part);
    }
    assert!(parse("name = service").is_ok());
    let long = format!("name = {}", "q".repeat(10_000));
    assert!(parse(&long).unwrap_err().to_string().len() < 200);
    let control = parse("name = \"\u{1b}[2J\"").unwrap_err();
    assert!(!control.to_string().contains('\u{1b}'));
}

#[test]
fn only_words_of_the_filter_are_cut_off() {
    refused("any(true)", 0, "which asks for a span of a request");
    let encoded = "a column that can only be tested with `is null`";
    refused("not events", 4, encoded);
    let long = parse(&format!("name = 5 '{}'", "q".repeat(100))).unwrap_err();
    assert!(long.to_string().ends_with("qqq…"), "{long}");
}

#[test]
fn limits() {
    let limit = |text: &str| match Filter::parse(text, &FilterLimits::default()) {
        Ok(_) => "none",
        Err(FilterError::TooLong { .. }) => "bytes",
        Err(FilterError::TooDeep { .. }) => "depth",
        Err(FilterError::TooManyNodes { .. }) => "nodes",
        Err(FilterError::ListTooLong { .. }) => "list",
        Err(FilterError::PatternTooLong { .. }) => "pattern",
        Err(FilterError::Unexpected { .. }) => "unexpected",
    };
    let nested = |left: &str, depth, right: &str| {
        format!("{}cold_start{}", left.repeat(depth), right.repeat(depth))
    };
    for (left, right) in [("(", ")"), ("not ", ""), ("not(", ")"), ("true and (", ")")] {
        let levels = if left == "not(" { 2 } else { 1 };
        assert_eq!(limit(&nested(left, 64 / levels, right)), "none", "{left}");
        assert_eq!(
            limit(&nested(left, 64 / levels + 1, right)),
            "depth",
            "{left}"
        );
        assert_eq!(limit(&nested(left, 1200, right)), "depth", "{left}");
    }
    assert_eq!(limit(&"(".repeat(10_000)), "depth");
    assert_eq!(limit(&"lower(".repeat(2_000)), "depth");
    assert_eq!(limit(&"(".repeat(20_000)), "bytes");
    assert_eq!(limit(&format!("true{}", " ".repeat(16 << 10))), "bytes");
    assert_eq!(limit(&vec!["true"; 1500].join(" or ")), "none");
    assert_eq!(limit(&format!("name like '{}'", "%a".repeat(512))), "none");
    assert_eq!(
        limit(&format!("name like '{}'", "%a".repeat(513))),
        "pattern"
    );
    assert_eq!(limit(&format!("name ~ '{}'", "a".repeat(1025))), "pattern");
    assert_eq!(
        limit(&format!("contains(name, '{}')", "a".repeat(1025))),
        "pattern"
    );
    assert_eq!(limit("name ~ '((a{100}){100}){100}'"), "unexpected");

    // The same with all the bytes that a caller may allow.
    let wide = FilterLimits {
        bytes: 1 << 24,
        ..FilterLimits::default()
    };
    let limit = |text: &str| Filter::parse(text, &wide).unwrap_err();
    let numbers = vec!["5"; 100_000].join(",");
    let error = limit(&format!("status_code in ({numbers})"));
    assert_eq!(
        error,
        FilterError::ListTooLong {
            position: 16 + 20_000,
            limit: 10_000
        }
    );
    let error = limit(&vec!["true"; 100_000].join(" or "));
    assert!(matches!(error, FilterError::TooManyNodes { .. }));
    let error = limit(&format!("status_code = {}", "9".repeat(1_000_000)));
    assert!(error.to_string().len() < 200, "{error}");
    let error = limit(&format!("name = '{}' x", "9".repeat(1_000_000)));
    assert!(error.render(&"x".repeat(2_000_000)).len() < 400);
    let list = vec!["5"; 10_000].join(",");
    assert!(Filter::parse(&format!("status_code in ({list})"), &wide).is_ok());
}

#[test]
fn the_caret_stands_under_the_place() {
    let text = "name = 'é' and\n  durration > 5 or true";
    let error = parse(text).unwrap_err();
    let lines: Vec<String> = error.render(text).lines().map(str::to_owned).collect();
    assert_eq!(lines[0], "  durration > 5 or true");
    assert_eq!(lines[1], "  ^");
    assert_eq!(lines[2], error.to_string());
    // A text that the error is not of does no harm.
    assert!(error.render("é").contains('^'));
    let control = parse("name = 'a' \u{1b}[2J").unwrap_err();
    assert!(!control.to_string().contains('\u{1b}'));
    assert!(!control.render("name = 'a' \u{1b}[2J").contains('\u{1b}'));
}
