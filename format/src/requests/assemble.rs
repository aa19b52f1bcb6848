//! The row of a request, out of the spans of its trace.

use std::collections::BTreeSet;

use arrow::array::{Array, RecordBatch};

use crate::error::FormatError;
use crate::span::SpanColumn;

/// How grave a span is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// All is well.
    Info,
    /// Something is odd.
    Warning,
    /// Something failed.
    Error,
    /// All failed.
    Fatal,
}

impl Level {
    /// The value of the column `level`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Fatal => "fatal",
        }
    }

    fn of(level: &str) -> Self {
        match level {
            "warning" => Self::Warning,
            "error" => Self::Error,
            "fatal" => Self::Fatal,
            _ => Self::Info,
        }
    }
}

/// What a request needs to know of a span, but for the values of the root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpanFacts {
    /// Its id.
    pub span_id: [u8; 8],
    /// The id of its parent, if it has one.
    pub parent: Option<[u8; 8]>,
    /// Its start, ns since 1970.
    pub start: i64,
    /// Its duration, ns.
    pub duration: i64,
    /// The sequence of the append that brought it, which tells versions of a span apart.
    pub sequence: i64,
    /// Whether it is a server span.
    pub is_server: bool,
    /// How grave it is.
    pub level: Level,
    /// Whether a function was started for it.
    pub cold_start: Option<bool>,
    /// Its service, by a number of the caller.
    pub service: Option<u32>,
    /// What answered, by a number of the caller.
    pub resource: Option<u32>,
    /// Whether it has a value in each of [`EARLIEST`].
    pub has: [bool; EARLIEST.len()],
}

/// The columns whose value comes from the earliest span that has one where the root has
/// none.
pub const EARLIEST: [SpanColumn; 4] = [
    SpanColumn::RequestId,
    SpanColumn::SessionId,
    SpanColumn::UserId,
    SpanColumn::Function,
];

/// The columns that [`SpanFacts::read`] needs.
pub const COLUMNS: [SpanColumn; 15] = [
    SpanColumn::TraceId,
    SpanColumn::SpanId,
    SpanColumn::ParentSpanId,
    SpanColumn::StartTime,
    SpanColumn::Duration,
    SpanColumn::Sequence,
    SpanColumn::Kind,
    SpanColumn::Level,
    SpanColumn::ColdStart,
    SpanColumn::Service,
    SpanColumn::Resource,
    SpanColumn::RequestId,
    SpanColumn::SessionId,
    SpanColumn::UserId,
    SpanColumn::Function,
];

impl SpanFacts {
    /// The facts of rows with [`COLUMNS`], each with its trace; `number` tells the number of
    /// a text.
    ///
    /// # Errors
    /// [`FormatError::Malformed`] when a column is not there.
    pub fn read(
        rows: &RecordBatch,
        mut number: impl FnMut(&str) -> u32,
        mut take: impl FnMut([u8; 16], Self),
    ) -> Result<(), FormatError> {
        let traces = SpanColumn::TraceId.ids(rows)?;
        let ids = SpanColumn::SpanId.ids(rows)?;
        let parents = SpanColumn::ParentSpanId.ids(rows)?;
        let starts = SpanColumn::StartTime.times(rows)?.values();
        let durations = SpanColumn::Duration.int64s(rows)?.values();
        let sequences = SpanColumn::Sequence.int64s(rows)?.values();
        let kinds = SpanColumn::Kind.texts(rows)?;
        let levels = SpanColumn::Level.texts(rows)?;
        let cold_starts = SpanColumn::ColdStart.booleans(rows)?;
        let services = SpanColumn::Service.texts(rows)?;
        let resources = SpanColumn::Resource.texts(rows)?;
        let mut of_earliest = Vec::with_capacity(EARLIEST.len());
        for column in EARLIEST {
            of_earliest.push(column.texts(rows)?);
        }
        let wrong = || FormatError::malformed("columns", 0, "ids of 16 and 8 bytes", "others");
        let numbers = starts.iter().zip(durations).zip(sequences);
        for (row, ((start, duration), sequence)) in numbers.enumerate() {
            let trace = traces.value(row).try_into().map_err(|_| wrong())?;
            let span_id = ids.value(row).try_into().map_err(|_| wrong())?;
            let parent = parents.is_valid(row).then(|| parents.value(row));
            let parent = parent.map(TryInto::try_into).transpose();
            let mut text = |texts: &arrow::array::StringViewArray| {
                texts.is_valid(row).then(|| number(texts.value(row)))
            };
            let mut has = [false; EARLIEST.len()];
            for (has, texts) in has.iter_mut().zip(&of_earliest) {
                *has = texts.is_valid(row);
            }
            take(
                trace,
                Self {
                    span_id,
                    parent: parent.map_err(|_| wrong())?,
                    start: *start,
                    duration: *duration,
                    sequence: *sequence,
                    is_server: kinds.value(row) == "server",
                    level: Level::of(levels.value(row)),
                    cold_start: cold_starts.is_valid(row).then(|| cold_starts.value(row)),
                    service: text(services),
                    resource: text(resources),
                    has,
                },
            );
        }
        Ok(())
    }

    /// What decides which of two spans is the earlier one.
    fn order(&self) -> (i64, [u8; 8], i64) {
        (self.start, self.span_id, self.sequence)
    }
}

/// A request, but for the values of its root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The start of the earliest span, ns since 1970.
    pub start: i64,
    /// The end of the last one, ns since 1970.
    pub end: i64,
    /// Spans.
    pub spans: u32,
    /// Those that are errors.
    pub errors: u32,
    /// Those that are warnings.
    pub warnings: u32,
    /// The worst level.
    pub level: Level,
    /// Whether a function was started.
    pub cold_start: Option<bool>,
    /// The numbers of the services.
    pub services: BTreeSet<u32>,
    /// The numbers of what answered.
    pub resources: BTreeSet<u32>,
    /// Whether there is a span without a parent.
    pub has_root: bool,
    /// Whether there is one, and the parent of each other span.
    pub is_complete: bool,
    /// The place, among the spans, of the root or of the span that stands for it.
    pub root: usize,
    /// The places of the spans that have the values of [`EARLIEST`].
    pub earliest: [Option<usize>; EARLIEST.len()],
    /// The greatest sequence of a span.
    pub last_sequence: i64,
}

/// The request of the spans of a trace; none when there is no span.
pub fn assemble(spans: &[SpanFacts]) -> Option<Request> {
    let mut ids: Vec<[u8; 8]> = spans.iter().map(|span| span.span_id).collect();
    ids.sort_unstable();
    let is_absent = |parent: [u8; 8]| ids.binary_search(&parent).is_err();
    let is_orphan = |span: &SpanFacts| span.parent.is_some_and(is_absent);
    let earliest = |is_asked: &dyn Fn(&SpanFacts) -> bool| {
        let asked = spans.iter().enumerate().filter(|(_, span)| is_asked(span));
        let first = asked.min_by_key(|(_, span)| span.order());
        first.map(|(place, _)| place)
    };
    let root = earliest(&|span| span.parent.is_none());
    let entry = || earliest(&|span| span.is_server && is_orphan(span));
    let stands = root.or_else(entry).or_else(|| earliest(&|_| true))?;
    let of_root = spans.get(stands)?;
    let mut request = Request {
        start: i64::MAX,
        end: i64::MIN,
        spans: u32::try_from(spans.len()).unwrap_or(u32::MAX),
        errors: 0,
        warnings: 0,
        level: Level::Info,
        cold_start: None,
        services: BTreeSet::new(),
        resources: BTreeSet::new(),
        has_root: root.is_some(),
        is_complete: root.is_some() && !spans.iter().any(is_orphan),
        root: stands,
        earliest: [None; EARLIEST.len()],
        last_sequence: 0,
    };
    for span in spans {
        request.start = request.start.min(span.start);
        request.end = request.end.max(span.start.saturating_add(span.duration));
        request.errors += u32::from(span.level >= Level::Error);
        request.warnings += u32::from(span.level == Level::Warning);
        request.level = request.level.max(span.level);
        // Of true, false and nothing the first that there is.
        request.cold_start = request.cold_start.max(span.cold_start);
        request.last_sequence = request.last_sequence.max(span.sequence);
        request.services.extend(span.service);
        request.resources.extend(span.resource);
    }
    for (number, place) in request.earliest.iter_mut().enumerate() {
        let has = |span: &SpanFacts| span.has.get(number).copied().unwrap_or(false);
        *place = if has(of_root) {
            Some(stands)
        } else {
            earliest(&has)
        };
    }
    Some(request)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::span::origin::LEVELS;

    #[test]
    fn levels_have_the_order_of_their_names() {
        let levels: Vec<Level> = LEVELS.iter().map(|name| Level::of(name)).collect();
        assert!(levels.is_sorted_by(|less, more| less < more), "{levels:?}");
        let names: Vec<&str> = levels.iter().map(|level| level.as_str()).collect();
        assert_eq!(names, LEVELS);
    }

    fn span(id: u8, parent: Option<u8>, start: i64) -> SpanFacts {
        SpanFacts {
            span_id: [id; 8],
            parent: parent.map(|parent| [parent; 8]),
            start,
            duration: 10,
            sequence: 0,
            is_server: false,
            level: Level::Info,
            cold_start: None,
            service: None,
            resource: None,
            has: [false; EARLIEST.len()],
        }
    }

    fn server(span: SpanFacts) -> SpanFacts {
        SpanFacts {
            is_server: true,
            ..span
        }
    }

    fn root_of(spans: &[SpanFacts]) -> (usize, bool, bool) {
        let request = assemble(spans).unwrap();
        (request.root, request.has_root, request.is_complete)
    }

    #[test]
    fn the_root_is_the_earliest_span_without_a_parent() {
        let spans = [span(3, Some(1), 0), span(2, None, 7), span(1, None, 5)];
        assert_eq!(root_of(&spans), (2, true, true));
        // Of two that start together the one with the lesser id, of two versions the first.
        assert_eq!(root_of(&[span(9, None, 5), span(8, None, 5)]).0, 1);
        let later = SpanFacts {
            sequence: 7,
            ..span(8, None, 5)
        };
        assert_eq!(root_of(&[later, span(8, None, 5)]).0, 1);
    }

    #[test]
    fn without_a_root_the_earliest_server_span_without_its_parent_stands_for_it() {
        let entry = server(span(2, Some(77), 4));
        let inner = server(span(3, Some(2), 1));
        let client = span(4, Some(78), 0);
        assert_eq!(root_of(&[client, inner, entry]), (2, false, false));
        // A server span whose parent is here does not.
        assert_eq!(root_of(&[span(2, Some(77), 4), inner, client]).0, 2);
    }

    #[test]
    fn without_both_the_earliest_span_stands_for_the_root() {
        let spans = [span(2, Some(1), 4), span(3, Some(2), 3)];
        assert_eq!(root_of(&spans), (1, false, false));
        // Spans that are each other's parents have no root, and no parent is missing.
        let circle = [span(1, Some(2), 0), span(2, Some(1), 1)];
        assert_eq!(root_of(&circle), (0, false, false));
        assert_eq!(assemble(&[]), None);
    }

    #[test]
    fn a_trace_with_a_root_is_complete_when_no_parent_is_missing() {
        let spans = [span(1, None, 0), span(2, Some(1), 1), span(3, Some(9), 2)];
        assert_eq!(root_of(&spans), (0, true, false));
        assert_eq!(root_of(&spans[..2]), (0, true, true));
    }

    #[test]
    fn a_request_reaches_from_the_first_start_to_the_last_end() {
        let long = SpanFacts {
            duration: 100,
            ..span(2, Some(1), 3)
        };
        let request = assemble(&[span(1, None, 5), long, span(3, Some(1), 20)]).unwrap();
        assert_eq!((request.start, request.end, request.spans), (3, 103, 3));
        let endless = SpanFacts {
            duration: i64::MAX,
            ..long
        };
        assert_eq!(assemble(&[endless]).unwrap().end, i64::MAX);
    }

    #[test]
    fn levels_services_and_cold_starts_are_those_of_all_spans() {
        let with = |id, level, cold_start, service| SpanFacts {
            level,
            cold_start,
            service,
            resource: service.map(|number| number + 10),
            ..span(id, None, 0)
        };
        let request = assemble(&[
            with(1, Level::Info, None, Some(4)),
            with(2, Level::Warning, Some(false), Some(2)),
            with(3, Level::Error, Some(true), Some(4)),
            with(4, Level::Fatal, Some(false), None),
        ]);
        let request = request.unwrap();
        assert_eq!((request.errors, request.warnings), (2, 1));
        assert_eq!(request.level, Level::Fatal);
        assert_eq!(request.cold_start, Some(true));
        assert_eq!(request.services, BTreeSet::from([2, 4]));
        assert_eq!(request.resources, BTreeSet::from([12, 14]));
        let denied = assemble(&[with(1, Level::Info, Some(false), None)]).unwrap();
        assert_eq!(denied.cold_start, Some(false));
        assert_eq!(assemble(&[span(1, None, 0)]).unwrap().cold_start, None);
    }

    #[test]
    fn ids_come_from_the_root_or_the_earliest_span_that_has_one() {
        let with = |span: SpanFacts, has| SpanFacts { has, ..span };
        let spans = [
            with(span(1, None, 9), [true, false, false, false]),
            with(span(2, Some(1), 12), [true, true, false, false]),
            with(span(3, Some(1), 11), [true, true, true, false]),
        ];
        let request = assemble(&spans).unwrap();
        assert_eq!(request.earliest, [Some(0), Some(2), Some(2), None]);
    }
}
