//! The requests of a segment of spans: a segment of their own within its file.

use std::collections::BTreeSet;
use std::ops::Range;

use arrow::array::RecordBatch;

use crate::error::FormatError;
use crate::id::SegmentId;
use crate::month::Month;
use crate::requests::build::RequestsBuilder;
use crate::requests::{assemble, column, table};
use crate::segment::layout::inner::InnerSegment;
use crate::segment::layout::origin::Origin;
use crate::segment::promotion::Promotion;
use crate::segment::writing::writer::{NewSegment, SegmentWriteError, SegmentWriter};
use crate::span::SpanColumn;

/// Spans from which on the requests of a partition are stored. Fewer are put together when
/// they are asked for, which takes less than a millisecond.
pub(crate) const LEAST_SPANS: usize = 128;

/// The requests of the partitions so far.
#[derive(Debug)]
pub(crate) struct StoredRequests {
    id: SegmentId,
    month: Month,
    origin: Origin,
    /// The columns of spans that requests are made of.
    columns: Vec<usize>,
    writer: Option<Box<SegmentWriter<Vec<u8>>>>,
    open: Option<Open>,
}

/// A partition at work.
#[derive(Debug)]
struct Open {
    team: String,
    first_row: u32,
    /// Rows that wait until it is known whether there are enough.
    waiting: Vec<RecordBatch>,
    waiting_rows: usize,
    builder: Option<RequestsBuilder>,
}

impl StoredRequests {
    /// None yet, of a segment of spans.
    pub(crate) fn new(id: SegmentId, month: Month, origin: Origin) -> Self {
        let columns = assemble::COLUMNS.into_iter().chain(column::sources());
        let columns: BTreeSet<usize> = columns.map(SpanColumn::place).collect();
        Self {
            id,
            month,
            origin,
            columns: columns.into_iter().collect(),
            writer: None,
            open: None,
        }
    }

    /// Adds rows of a batch that are a team's; the first of them is the segment's row
    /// `first_row`.
    pub(crate) fn add(
        &mut self,
        team: &str,
        batch: &RecordBatch,
        rows: Range<usize>,
        first_row: u32,
    ) -> Result<(), SegmentWriteError> {
        let is_open = self.open.as_ref().is_some_and(|open| open.team == team);
        if !is_open {
            self.close()?;
            // Most partitions of a segment of many teams end here.
            if rows.len() < LEAST_SPANS && rows.end < batch.num_rows() {
                return Ok(());
            }
        }
        let open = self.open.get_or_insert_with(|| Open {
            team: team.to_owned(),
            first_row,
            waiting: Vec::new(),
            waiting_rows: 0,
            builder: None,
        });
        let spans = batch.project(&self.columns);
        let spans = spans.map_err(|error| {
            FormatError::malformed("columns", 0, "columns of spans", error.to_string())
        })?;
        open.waiting.push(spans.slice(rows.start, rows.len()));
        open.waiting_rows += rows.len();
        if open.waiting_rows < LEAST_SPANS {
            return Ok(());
        }
        let new = || RequestsBuilder::new(team, open.first_row);
        let builder = open.builder.get_or_insert_with(new);
        let mut complete = Vec::with_capacity(open.waiting.len());
        for spans in open.waiting.drain(..) {
            complete.push(builder.add(&spans)?);
        }
        complete.iter().try_for_each(|rows| self.write(rows))
    }

    /// Ends the partition at work.
    fn close(&mut self) -> Result<(), SegmentWriteError> {
        let builder = self.open.take().and_then(|open| open.builder);
        builder.map_or(Ok(()), |builder| self.write(&builder.finish()?))
    }

    fn write(&mut self, rows: &RecordBatch) -> Result<(), SegmentWriteError> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        let writer = match &mut self.writer {
            Some(writer) => writer,
            None => {
                let segment = NewSegment {
                    id: self.id,
                    month: self.month,
                    origin: self.origin.clone(),
                    promotion: Promotion::default(),
                };
                let writer = SegmentWriter::new(Vec::new(), table(), segment)?;
                self.writer.insert(Box::new(writer))
            }
        };
        writer.write(rows)
    }

    /// The part of the segment; none when no partition has its requests stored.
    pub(crate) fn finish(mut self) -> Result<Option<Vec<u8>>, SegmentWriteError> {
        self.close()?;
        let Some(writer) = self.writer.take() else {
            return Ok(None);
        };
        let (file, summary) = writer.finish()?;
        let part = InnerSegment::encode(file, &summary);
        Ok(Some(part))
    }
}
