//! Files of many documents.

use std::io::{self, BufRead, BufReader, Read};

use proptest::prelude::*;

use crate::otlp::json::{Document, encode};
use crate::otlp::{Documents, OtlpError, arbitrary};

const METRICS: &str = r#"{"resourceMetrics":[]}"#;

/// Each document as `line what`, each error as `line: error`.
fn read(text: &str, max_bytes: usize) -> Vec<String> {
    let mut documents = Documents::new(text.as_bytes(), max_bytes);
    let mut found = Vec::new();
    while let Some(item) = documents.next() {
        found.push(match item {
            Ok((line, Document::Traces(request))) => {
                format!("{line} traces {}", request.resource_spans.len())
            }
            Ok((line, Document::Other(what))) => format!("{line} {what}"),
            Err(error) => format!("{}: {error}", documents.line()),
        });
    }
    found
}

proptest! {
    #[test]
    fn every_layout_reads_the_same(
        requests in proptest::collection::vec(arbitrary::request(), 0..5),
        layouts in proptest::collection::vec((any::<bool>(), "[ \r\n\t]{0,3}"), 5),
        capacity in 1..40_usize,
    ) {
        let mut text = String::new();
        for (request, (is_pretty, gap)) in requests.iter().zip(&layouts) {
            let line = encode(request);
            if *is_pretty {
                let tree: serde_json::Value = serde_json::from_str(&line).unwrap();
                text += &serde_json::to_string_pretty(&tree).unwrap();
            } else {
                text += &line;
            }
            text += gap;
        }
        let input = BufReader::with_capacity(capacity, text.as_bytes());
        let found = Documents::new(input, 1 << 20)
            .map(|item| item.unwrap().1)
            .collect::<Vec<_>>();
        let expected = requests.into_iter().map(Document::Traces).collect::<Vec<_>>();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn any_text_is_an_answer(text in "[{}\\[\\]\",:\\\\ \na1]{0,60}", max_bytes in 0..60_usize) {
        for found in read(&text, max_bytes) {
            let is_at_a_line = found.starts_with(|letter: char| letter.is_ascii_digit());
            prop_assert!(is_at_a_line, "{}", found);
        }
    }
}

#[test]
fn documents_have_the_line_on_which_they_begin() {
    let text =
        format!("\u{feff}\n{METRICS}\n\n{{\n \"resourceSpans\": [\n{{}}\n]\n}} {METRICS}\r\n{{}}");
    assert_eq!(
        read(&text, 100),
        ["2 metrics", "4 traces 1", "8 metrics", "9 traces 0"]
    );
    assert!(read(" \n\n", 100).is_empty());
}

#[test]
fn braces_in_texts_do_not_count() {
    let text = r#"{"a":"}{\"}]","b":"\\"}{"resourceSpans":[]}"#;
    assert_eq!(read(text, 100), ["1 traces 0", "1 traces 0"]);
}

#[test]
fn errors_have_their_place_in_the_file() {
    let text =
        format!("{METRICS}\n{METRICS} {{\"resourceSpans\":1}}\n{{\n\"resourceSpans\":\n  2}}");
    let places = Documents::new(text.as_bytes(), 100)
        .filter_map(Result::err)
        .map(|error| match error {
            OtlpError::Json { line, column, .. } => (line, column),
            other => panic!("{other}"),
        })
        .collect::<Vec<_>>();
    assert_eq!(places, [(2, 41), (5, 3)]);
}

#[test]
fn after_a_damaged_document_comes_the_next() {
    // Cut off within a text, cut off elsewhere, and the tail of a lost line.
    for damaged in [
        "{\"resourceSpans\":[{\"schemaUrl\":\"abc",
        "{\"resourceSpans\":[{\"scopeSpans\":[",
        "{\n  \"resourceSpans\": [\n    {",
        "chemaUrl\":\"}\"}]}",
        "]",
        "[1,2]",
    ] {
        let text = format!("{damaged}\n{METRICS}\n{METRICS}");
        let found = read(&text, 1_000);
        let line = 1 + damaged.lines().count();
        assert_eq!(found.len(), 3, "{damaged}: {found:?}");
        assert!(
            found[0].starts_with("1: OTLP JSON at line"),
            "{damaged}: {found:?}"
        );
        assert_eq!(
            found[1..],
            [format!("{line} metrics"), format!("{} metrics", line + 1)]
        );
    }
    let found = read("{\"resourceSpans\":[", 100);
    assert_eq!(found.len(), 1);
    assert!(found[0].contains("EOF"), "{found:?}");
}

#[test]
fn a_brace_first_in_its_line_may_belong_to_the_document() {
    let text = "{\n\"resourceSpans\": [\n{\n\"resource\": {}},\n{\"scopeSpans\":[]}\n]\n}";
    assert_eq!(read(text, 100), ["1 traces 2"]);
}

#[test]
fn too_long_documents_are_refused_and_passed_over() {
    let long = format!("{{\"resourceSpans\":[{}{{}}]}}", "{},".repeat(100));
    let text = format!("{METRICS}\n{long}\n{METRICS}");
    let refused = format!(
        "2: bytes of a JSON document: at most 50 allowed, found {} or more",
        long.len()
    );
    assert_eq!(
        read(&text, 50),
        ["1 metrics", refused.as_str(), "3 metrics"]
    );
    assert_eq!(read(METRICS, METRICS.len()), ["1 metrics"]);
    assert_eq!(read(METRICS, METRICS.len() - 1).len(), 1);
    // Also when it is cut off.
    let text = format!("{}\n{METRICS}", &long[..long.len() - 1]);
    let found = read(&text, 50);
    assert_eq!(found[1..], ["2 metrics"], "{found:?}");
}

#[test]
fn a_document_that_takes_too_much_memory_is_refused_before_it_is_decoded() {
    let spans = "{},".repeat(400_000);
    let scopes = format!("[{{\"scopeSpans\":[{{\"spans\":[{spans}{{}}]}}]}}]");
    let text = format!("{{\"resourceSpans\":{scopes}}}\n{METRICS}");
    let found = read(&text, 2 << 20);
    assert!(
        found[0].starts_with("1: bytes of memory for what is decoded at a time: at most 67108864"),
        "{}",
        found[0]
    );
    assert_eq!(found[1..], ["2 metrics"]);
}

#[test]
fn a_reader_that_fails_ends_the_documents() {
    struct Failing;
    impl Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the disk is gone"))
        }
    }
    impl BufRead for Failing {
        fn fill_buf(&mut self) -> io::Result<&[u8]> {
            Err(io::Error::other("the disk is gone"))
        }
        fn consume(&mut self, _: usize) {}
    }
    let input = METRICS.as_bytes().chain(&b"\n{"[..]).chain(Failing);
    let found = Documents::new(input, 100).collect::<Vec<_>>();
    assert_eq!(found.len(), 2);
    assert!(found[0].is_ok());
    assert!(
        matches!(&found[1], Err(OtlpError::Read { line: 2, .. })),
        "{found:?}"
    );
}
