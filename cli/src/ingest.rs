//! Files into pieces that the store takes.
//!
//! One thread reads and decodes, the caller's appends; the pieces of a file
//! come in the order of the file.

mod chunks;
mod protobuf;

use std::fs::{File, Metadata};
use std::io::{self, BufRead, Read};
use std::path::{Path, PathBuf};
use std::thread;

use crossbeam_channel::{Sender, bounded};
use indicatif::ProgressBar;
use spanstore_format::otlp::documents::Documents;
use spanstore_format::otlp::json::Document;
use spanstore_format::otlp::{ExportTraceServiceRequest, compression};

use self::chunks::Chunks;
use self::protobuf::ResourceSpansReader;
use crate::arguments::InputFormat;
use crate::error::Error;

/// Bytes of the longest JSON document and of the longest protobuf field.
const DOCUMENT_BYTES: usize = 256 << 20;
/// The byte that a protobuf request begins with.
const RESOURCE_SPANS_TAG: u8 = 0x0a;
/// Pieces that wait between the threads.
const WAITING_CHUNKS: usize = 4;

/// What was read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReadSummary {
    /// JSON documents that hold no traces but metrics or logs.
    pub skipped_lines: u64,
}

/// Reads files (`-` is standard input) and hands what is in them to `append`,
/// a few thousand spans at a time. It stops at the first error; what was
/// appended before stays.
///
/// # Errors
/// The first error of reading or of `append`, next to what was read until then.
pub fn read_files(
    files: &[PathBuf],
    format: InputFormat,
    bar: &ProgressBar,
    mut append: impl FnMut(ExportTraceServiceRequest) -> Result<(), Error>,
) -> (ReadSummary, Result<(), Error>) {
    let (sender, receiver) = bounded(WAITING_CHUNKS);
    thread::scope(|scope| {
        let reader = scope.spawn(move || {
            let mut summary = ReadSummary::default();
            let result = files
                .iter()
                .try_for_each(|file| read_file(file, format, bar, &sender, &mut summary));
            (summary, result)
        });
        let appended = receiver.iter().try_for_each(&mut append);
        // The reader stops when nobody listens.
        drop(receiver);
        let (summary, read) = reader.join().unwrap_or_else(|_| {
            let detail = "the reading thread failed".to_owned();
            (
                ReadSummary::default(),
                Err(Error::Input {
                    file: "input".into(),
                    detail,
                }),
            )
        });
        (summary, appended.and(read))
    })
}

/// Bytes of all files together; none when one is not a plain file.
pub fn total_bytes(files: &[PathBuf]) -> Option<u64> {
    files
        .iter()
        .map(|file| {
            file.metadata()
                .ok()
                .filter(Metadata::is_file)
                .map(|it| it.len())
        })
        .sum()
}

fn read_file(
    path: &Path,
    format: InputFormat,
    bar: &ProgressBar,
    sender: &Sender<ExportTraceServiceRequest>,
    summary: &mut ReadSummary,
) -> Result<(), Error> {
    let name = path.display().to_string();
    let raw: Box<dyn Read + Send> = if path == Path::new("-") {
        Box::new(io::stdin())
    } else {
        Box::new(File::open(path).map_err(Error::io(&name))?)
    };
    let mut input = compression::reader(bar.wrap_read(raw)).map_err(Error::io(&name))?;
    let is_json = match format {
        InputFormat::OtlpJson => true,
        InputFormat::OtlpProtobuf => false,
        InputFormat::Auto => looks_like_json(input.fill_buf().map_err(Error::io(&name))?),
    };
    let requests: Requests<'_> = if is_json {
        let documents = Documents::new(input, DOCUMENT_BYTES);
        Box::new(documents.filter_map(|document| match document {
            Ok((_, Document::Traces(request))) => Some(Ok(request)),
            Ok((_, Document::Other(_))) => {
                summary.skipped_lines += 1;
                None
            }
            Err(error) => Some(Err(error.to_string())),
        }))
    } else {
        Box::new(
            ResourceSpansReader::new(input, DOCUMENT_BYTES).map(|read| match read {
                Ok(resource_spans) => Ok(ExportTraceServiceRequest {
                    resource_spans: vec![resource_spans],
                }),
                Err(error) => Err(error.to_string()),
            }),
        )
    };
    let mut chunks = Chunks::new(|chunk| sender.send(chunk).is_ok());
    for request in requests {
        let is_wanted = match request {
            Ok(request) => chunks.add(request),
            Err(detail) => {
                chunks.flush();
                return Err(Error::Input { file: name, detail });
            }
        };
        if !is_wanted {
            // The appending side has ended and knows why.
            return Ok(());
        }
    }
    chunks.flush();
    Ok(())
}

/// What an input holds, piece by piece, or what is wrong with it.
type Requests<'a> = Box<dyn Iterator<Item = Result<ExportTraceServiceRequest, String>> + 'a>;

/// Whether an input is JSON, by its first bytes.
///
/// A protobuf request begins with the tag 0x0a, which JSON allows as a line
/// break, so one byte does not tell; a quotation mark or a closing brace after
/// the opening one does, when no tag follows.
fn looks_like_json(head: &[u8]) -> bool {
    let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
    let mut bytes = head
        .iter()
        .copied()
        .filter(|byte| !byte.is_ascii_whitespace());
    match (bytes.next(), bytes.next(), bytes.next()) {
        (None, ..) => true,
        (Some(b'{'), Some(b'"'), third) => third.is_none_or(|third| third.is_ascii_graphic()),
        (Some(b'{'), second, _) => matches!(second, None | Some(b'}')),
        _ => head.first() != Some(&RESOURCE_SPANS_TAG),
    }
}

#[cfg(test)]
mod tests;
