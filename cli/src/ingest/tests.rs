use std::io::Write;

use prost::Message;
use spanstore_format::otlp::{ResourceSpans, Span, json};
use tempfile::NamedTempFile;

use super::*;
use crate::generate::Application;

fn requests(spans: u64) -> Vec<ExportTraceServiceRequest> {
    Application::new(1, 1_795_000_000_000_000_000)
        .requests(spans)
        .collect()
}

/// Each span with its service's resource and its scope, in order.
fn flat(requests: &[ExportTraceServiceRequest]) -> Vec<(Vec<u8>, String, Span)> {
    let mut flat = Vec::new();
    for resource in requests.iter().flat_map(|request| &request.resource_spans) {
        for scope in &resource.scope_spans {
            let name = scope.scope.clone().unwrap().name;
            let resource = resource.resource.as_ref().unwrap().encode_to_vec();
            flat.extend(
                scope
                    .spans
                    .iter()
                    .map(|span| (resource.clone(), name.clone(), span.clone())),
            );
        }
    }
    flat
}

fn file(bytes: &[u8]) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn read(
    files: &[&NamedTempFile],
    format: InputFormat,
) -> (
    Vec<ExportTraceServiceRequest>,
    ReadSummary,
    Result<(), Error>,
) {
    let paths: Vec<_> = files.iter().map(|file| file.path().to_owned()).collect();
    let mut chunks = Vec::new();
    let (summary, result) = read_files(&paths, format, &ProgressBar::hidden(), |chunk| {
        chunks.push(chunk);
        Ok(())
    });
    (chunks, summary, result)
}

fn as_json(requests: &[ExportTraceServiceRequest]) -> Vec<u8> {
    let mut lines = Vec::new();
    for request in requests {
        lines.extend_from_slice(json::encode(request).as_bytes());
        lines.push(b'\n');
    }
    lines
}

fn as_protobuf(requests: &[ExportTraceServiceRequest]) -> Vec<u8> {
    requests.iter().flat_map(Message::encode_to_vec).collect()
}

#[test]
fn both_forms_of_input_give_the_same_spans_in_order() {
    let requests = requests(10_000);
    let lines = file(&as_json(&requests));
    let messages = file(&as_protobuf(&requests));
    for format in [InputFormat::Auto, InputFormat::OtlpJson] {
        let (chunks, summary, result) = read(&[&lines], format);
        result.unwrap();
        assert_eq!(summary.skipped_lines, 0);
        assert_eq!(flat(&chunks), flat(&requests));
    }
    for format in [InputFormat::Auto, InputFormat::OtlpProtobuf] {
        let (chunks, _, result) = read(&[&messages], format);
        result.unwrap();
        assert_eq!(flat(&chunks), flat(&requests));
    }
}

#[test]
fn one_large_request_is_cut_into_chunks() {
    let mut whole = ExportTraceServiceRequest::default();
    for request in requests(10_000) {
        whole.resource_spans.extend(request.resource_spans);
    }
    let file = file(&as_json(std::slice::from_ref(&whole)));
    let (chunks, _, result) = read(&[&file], InputFormat::Auto);
    result.unwrap();
    let sizes: Vec<_> = chunks
        .iter()
        .map(|chunk| flat(std::slice::from_ref(chunk)).len())
        .collect();
    assert_eq!(sizes, [4_096, 4_096, 1_808]);
    assert_eq!(flat(&chunks), flat(&[whole]));
}

#[test]
fn large_spans_make_small_chunks() {
    let mut request = requests(100).remove(0);
    for resource in &mut request.resource_spans {
        for span in resource
            .scope_spans
            .iter_mut()
            .flat_map(|scope| &mut scope.spans)
        {
            span.name = "x".repeat(1 << 20);
        }
    }
    let file = file(&as_protobuf(std::slice::from_ref(&request)));
    let (chunks, _, result) = read(&[&file], InputFormat::Auto);
    result.unwrap();
    assert!(chunks.iter().all(|chunk| chunk.encoded_len() < 10 << 20));
    assert_eq!(flat(&chunks), flat(&[request]));
}

#[test]
fn what_holds_no_traces_is_skipped_and_counted() {
    let mut lines = as_json(&requests(300));
    lines.extend_from_slice(b"{\"resourceLogs\":[]}\n");
    let file = file(&lines);
    let (chunks, summary, result) = read(&[&file, &file], InputFormat::Auto);
    result.unwrap();
    assert_eq!(summary.skipped_lines, 2);
    assert_eq!(flat(&chunks).len(), 600);
}

#[test]
fn what_stands_before_an_error_is_handed_on() {
    let mut lines = as_json(&requests(300));
    lines.extend_from_slice(b"{\"resourceSpans\": what?\n");
    let broken = file(&lines);
    let (chunks, _, result) = read(&[&broken], InputFormat::Auto);
    assert_eq!(flat(&chunks).len(), 300);
    let text = result.unwrap_err().to_string();
    assert!(
        text.starts_with(&broken.path().display().to_string()),
        "{text}"
    );

    let mut bytes = as_protobuf(&requests(300));
    let resources = read(&[&file(&bytes)], InputFormat::Auto).0;
    bytes.truncate(bytes.len() - 1);
    let (chunks, _, result) = read(&[&file(&bytes)], InputFormat::Auto);
    assert!(flat(&chunks).len() < flat(&resources).len());
    assert!(
        result
            .unwrap_err()
            .to_string()
            .contains("ends within a field")
    );
}

#[test]
fn an_error_of_the_store_stops_the_reading() {
    let file = file(&as_protobuf(&requests(100_000)));
    let mut appended = 0;
    let (_, result) = read_files(
        &[file.path().to_owned()],
        InputFormat::Auto,
        &ProgressBar::hidden(),
        |_| {
            appended += 1;
            if appended == 2 {
                Err(Error::Usage("full".into()))
            } else {
                Ok(())
            }
        },
    );
    assert_eq!(result.unwrap_err().to_string(), "full");
    assert_eq!(appended, 2);
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let paths = [PathBuf::from("/nowhere/at/all.json")];
    let (_, result) = read_files(
        &paths,
        InputFormat::Auto,
        &ProgressBar::hidden(),
        |_| Ok(()),
    );
    assert!(
        result
            .unwrap_err()
            .to_string()
            .starts_with("/nowhere/at/all.json: ")
    );
    assert_eq!(total_bytes(&paths), None);
}

#[test]
fn hostile_protobuf_is_refused() {
    let unknown = [
        0x12, 0x02, b'h', b'i', 0x18, 0x05, 0x21, 0, 0, 0, 0, 0, 0, 0, 0, 0x2d, 0, 0, 0, 0,
    ];
    let resources = |bytes: &[u8]| -> Result<Vec<ResourceSpans>, String> {
        ResourceSpansReader::new(bytes, 1 << 20)
            .collect::<io::Result<_>>()
            .map_err(|e| e.to_string())
    };
    assert_eq!(resources(&unknown), Ok(vec![]));
    assert_eq!(resources(&[0x0a, 0x00]), Ok(vec![ResourceSpans::default()]));
    for (bytes, expected) in [
        (
            &[0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f, 1][..],
            "exceeds the limit",
        ),
        (
            &[0x0a, 0x80, 0x80, 0x10],
            "byte 4: the input ends within a field",
        ),
        (&[0x0a, 0x05, 1], "ends within a field"),
        (&[0xff; 11], "at most ten bytes"),
        (&[0x0b], "found something else"),
        (&[0x00, 0x01], "found something else"),
        (&[0x0a, 0x02, 0x0a, 0x7f], "byte 0"),
    ] {
        let error = resources(bytes).unwrap_err();
        assert!(error.contains(expected), "{bytes:?}: {error}");
    }
}

#[test]
fn the_first_bytes_tell_json_from_protobuf() {
    for json in [
        "{\"resourceSpans\":[]}",
        "\n\n { \"a\"",
        "\u{feff}{\"a",
        "{}",
        "{",
        "[]",
        "hello",
        "",
        "  \n",
    ] {
        assert!(looks_like_json(json.as_bytes()), "{json:?}");
    }
    let with_length = |length: usize| {
        let resource = ResourceSpans {
            schema_url: "x".repeat(length),
            ..ResourceSpans::default()
        };
        ExportTraceServiceRequest {
            resource_spans: vec![resource],
        }
        .encode_to_vec()
    };
    for length in 0..300 {
        assert!(!looks_like_json(&with_length(length)), "{length}");
    }
    // A request of '{' bytes whose resource takes '"' bytes.
    assert!(!looks_like_json(&[
        0x0a, b'{', 0x0a, b'"', 0x0a, 0x10, 0x0a
    ]));
}
