//! What is typed into a search bar.

use proptest::prelude::*;

use super::*;

fn read(rows: Rows, text: &str) -> Result<Shorthand, FilterError> {
    Shorthand::parse(rows, text, &FilterLimits::default())
}

#[test]
fn terms_are_filters() {
    for (text, of_spans, of_requests) in [
        ("", "true", "true"),
        ("  \t ", "true", "true"),
        ("timeout", "search('timeout')", "search('timeout')"),
        (
            r#""timed \"out\"""#,
            r#"search('timed "out"')"#,
            r#"search('timed "out"')"#,
        ),
        ("it's", "search('it''s')", "search('it''s')"),
        (
            "-timeout",
            "(search('timeout')) is not true",
            "not (search('timeout'))",
        ),
        ("level:error", "level = 'error'", "level = 'error'"),
        ("LEVEL:error", "level = 'error'", "level = 'error'"),
        (
            "-level:error",
            "(level = 'error') is not true",
            "not (level = 'error')",
        ),
        (
            "-route:/health",
            "(route = '/health') is not true",
            "(route = '/health') is not true",
        ),
        (
            "service:db|cache",
            "(service = 'db' or service = 'cache')",
            "(service = 'db' or service = 'cache')",
        ),
        ("session:abc", "session_id = 'abc'", "session_id = 'abc'"),
        ("status:5xx", "status_code = '5xx'", "status_code = '5xx'"),
        (
            "status:404|>=500",
            "(status_code = '404' or status_code >= '500')",
            "(status_code = '404' or status_code >= '500')",
        ),
        (
            "level:>=warning",
            "level >= 'warning'",
            "level >= 'warning'",
        ),
        (
            "duration:>250ms",
            "duration > '250ms'",
            "duration > '250ms'",
        ),
        ("duration:<=1s", "duration <= '1s'", "duration <= '1s'"),
        (
            "host:*.example.com",
            "host like '%.example.com'",
            "host like '%.example.com'",
        ),
        (
            r"path:/a_b\*c*",
            r"path like '/a\_b*c%'",
            r"path like '/a\_b*c%'",
        ),
        (r#"path:"/a*""#, "path = '/a*'", "path = '/a*'"),
        ("host:*", "host is not null", "host is not null"),
        ("route:\"\"", "route = ''", "route = ''"),
        ("has:user_id", "user_id is not null", "user_id is not null"),
        ("has:db.system", "has('db.system')", "any(has('db.system'))"),
        (
            "db.system:redis",
            "attributes['db.system'] = 'redis'",
            "any(attributes['db.system'] = 'redis')",
        ),
        (
            "-@plan:pro",
            "(attributes['plan'] = 'pro') is not true",
            "not (any(attributes['plan'] = 'pro'))",
        ),
        (
            "@items:>5",
            "attributes['items'] > 5",
            "any(attributes['items'] > 5)",
        ),
        (
            "level:error  timeout",
            "level = 'error' and search('timeout')",
            "level = 'error' and search('timeout')",
        ),
    ] {
        for (rows, expected) in [(Rows::Spans, of_spans), (Rows::Requests, of_requests)] {
            let found = read(rows, text).unwrap_or_else(|error| panic!("{}", error.render(text)));
            assert_eq!(found.filter(), expected, "{text}");
            let again = read(rows, &found.to_string()).unwrap();
            assert_eq!(again, found, "{text} is written {found}");
        }
    }
    let of_spans = read(Rows::Spans, "cold_start:true status:error flags:1").unwrap();
    let expected = "cold_start = true and status = 'error' and flags = 1";
    assert_eq!(of_spans.filter(), expected);
}

#[test]
fn each_status_means_what_it_means_alone() {
    let typed = read(Rows::Spans, "-status:5xx|error|404").unwrap();
    let filter = typed.filter();
    let expected =
        "(((status_code = '5xx' or status_code = '404') or status = 'error')) is not true";
    assert_eq!(filter, expected);
}

#[test]
fn what_is_wrong_is_told_where_it_is() {
    for (text, position, expected) in [
        ("level:error sesion:a", 12, "such as session;"),
        ("durration:1s", 0, "such as duration;"),
        ("ok duration:>fast", 13, "a duration"),
        ("duration:>1ms|<=\"fast\"", 16, "a duration"),
        ("level:eror", 6, "such as 'error'"),
        ("-level:error|warn", 13, "such as 'warning'"),
        ("status:eror", 7, "such as 'error'"),
        ("-cold_start:maybe", 12, "true or false"),
        ("flags:1|many", 8, "an integer"),
        ("status:>5xx", 8, "`=` or `!=`"),
        ("status:404|eror", 11, "such as 'error'"),
        ("status:5xx|eror|ok", 11, "such as 'error'"),
        ("trace:xyz", 6, "hexadecimal"),
        ("a \"b c", 2, "`\"` at the end"),
        ("\"a\"b", 3, "a space"),
        ("level:", 6, "a value"),
        ("level:a|", 8, "a value"),
        ("duration:>", 10, "a value"),
        ("a OR b", 2, "joined by `|`"),
        ("- a", 0, "`-` before a term"),
        ("has:", 4, "a column or the key"),
        ("\"\"", 0, "a text to look for"),
        ("events:a", 7, "no literal"),
        (
            "http://foo",
            0,
            "; \"http://foo\" in double quotes is searched as a text",
        ),
        ("a -12:30", 3, "; \"12:30\" in double quotes"),
        ("nope:\"a b\"", 0, r#"; "nope:\"a b\"" in double quotes"#),
    ] {
        let error = read(Rows::Spans, text).unwrap_err();
        assert_eq!(error.position(), position, "{text}: {error}");
        assert!(error.to_string().contains(expected), "{text}: {error}");
    }
    let long = "a ".repeat(20_000);
    let error = read(Rows::Spans, &long).unwrap_err();
    assert!(matches!(error, FilterError::TooLong { .. }), "{error}");
}

proptest! {
    /// Whatever is read is written so that it is read as the same, and is a filter.
    #[test]
    fn what_is_read_is_written_and_read_again(
        text in r#"(-?(@?[a-z.\-]{1,3}|level|status|host|has|@a b|"[ -~]{0,4}")(:?[ -~]{0,6}(\||\*|\\)?[ -~é]{0,3})? ?){0,4}"#,
    ) {
        for rows in [Rows::Spans, Rows::Requests] {
            if let Ok(typed) = read(rows, &text) {
                let written = typed.to_string();
                prop_assert_eq!(&read(rows, &written).unwrap(), &typed, "{} | {}", text, written);
                prop_assert!(Filter::over(rows, typed.filter(), &FilterLimits::default()).is_ok());
            }
        }
    }
}
