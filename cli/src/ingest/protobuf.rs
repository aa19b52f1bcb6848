//! A protobuf request, read one resource at a time.
//!
//! The request's message has one field, the repeated `resource_spans` with the
//! number 1; messages that follow each other read as one. So files of any size
//! are read with the memory of one resource.

use std::io::{self, BufRead, ErrorKind, Read};

use prost::Message;
use spanstore_format::otlp::documents::check_decoded;
use spanstore_format::otlp::{Measured, ResourceSpans};

/// The tag of the field 1 with a length.
const RESOURCE_SPANS: u64 = 1 << 3 | 2;

/// Reads the resources of a request; ends after the first error.
#[derive(Debug)]
pub(crate) struct ResourceSpansReader<R> {
    input: R,
    most_bytes: usize,
    read_bytes: u64,
    is_done: bool,
}

impl<R: BufRead> ResourceSpansReader<R> {
    /// Reads resources of at most so many bytes each.
    pub(crate) fn new(input: R, most_bytes: usize) -> Self {
        Self {
            input,
            most_bytes,
            read_bytes: 0,
            is_done: false,
        }
    }

    fn next_resource(&mut self) -> io::Result<Option<ResourceSpans>> {
        while !self.input.fill_buf()?.is_empty() {
            let begin = self.read_bytes;
            let tag = self.varint()?;
            if tag == RESOURCE_SPANS {
                let bytes = self.field(begin)?;
                Measured::of_resource_spans(&bytes)
                    .and_then(|measured| check_decoded(&measured, self.most_bytes))
                    .map_err(|error| invalid(begin, &error.to_string()))?;
                return ResourceSpans::decode(bytes.as_slice())
                    .map(Some)
                    .map_err(|error| invalid(begin, &error.to_string()));
            }
            self.skip(tag, begin)?;
        }
        Ok(None)
    }

    /// Skips a field that OTLP does not have yet.
    fn skip(&mut self, tag: u64, begin: u64) -> io::Result<()> {
        match (tag >> 3, tag & 7) {
            (2.., 0) => self.varint().map(|_| ()),
            (2.., 1) => self.exactly(8).map(|_| ()),
            (2.., 2) => self.field(begin).map(|_| ()),
            (2.., 5) => self.exactly(4).map(|_| ()),
            _ => Err(invalid(
                begin,
                "expected OTLP protobuf, found something else",
            )),
        }
    }

    fn field(&mut self, begin: u64) -> io::Result<Vec<u8>> {
        let length = self.varint()?;
        match usize::try_from(length) {
            Ok(length) if length <= self.most_bytes => self.exactly(length),
            _ => {
                let limit = self.most_bytes;
                Err(invalid(
                    begin,
                    &format!("a field of {length} bytes exceeds the limit of {limit}"),
                ))
            }
        }
    }

    fn varint(&mut self) -> io::Result<u64> {
        let begin = self.read_bytes;
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.exactly(1)?.first().copied().unwrap_or(0);
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(invalid(begin, "expected a number of at most ten bytes"))
    }

    fn exactly(&mut self, bytes: usize) -> io::Result<Vec<u8>> {
        let mut buffer = Vec::new();
        // The length is a stranger's: memory is taken for what is there alone.
        let read = self
            .input
            .by_ref()
            .take(bytes as u64)
            .read_to_end(&mut buffer)?;
        self.read_bytes += read as u64;
        if read < bytes {
            return Err(invalid(self.read_bytes, "the input ends within a field"));
        }
        Ok(buffer)
    }
}

impl<R: BufRead> Iterator for ResourceSpansReader<R> {
    type Item = io::Result<ResourceSpans>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_done {
            return None;
        }
        let next = self.next_resource().transpose();
        self.is_done = !matches!(next, Some(Ok(_)));
        next
    }
}

fn invalid(offset: u64, detail: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("byte {offset}: {detail}"))
}
