//! Keys of attributes: what there is to ask for, of which types, and how many spans have it.
//!
//! Which promoted keys a row has is said by the order of its attributes, of which there are few
//! different ones: these are counted in codes, and no value is read. What lies in no column is
//! decoded span by span, of a bounded number of spans. Resources are looked at once each.

mod counted;
mod file;

use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::buffer::BooleanBuffer;
use hashbrown::HashSet;
use roaring::{MultiOps, RoaringBitmap};
use spanstore_format::segment::layout::encoding::PAGE_ROWS;
use spanstore_format::segment::promotion::Owner;
use spanstore_format::span::attribute::ValueType;
use spanstore_format::span::first_views;

use self::counted::Counted;
use self::file::{File, InColumns};
use super::Prefix;
use crate::error::Error;
use crate::query::builder::Query;
use crate::query::filter::Rows;
use crate::query::job::{Job, on_each};
use crate::read::condition::Condition;
use crate::read::hot::HotPart;
use crate::read::interrupt::Interrupt;
use crate::read::matching::{Matching, part};
use crate::read::meter::Stage;
use crate::read::scan::{row_groups, rows_of_group};

/// Rows in memory that are decoded before it is asked whether the query is to end.
const ROWS_A_CHECK: usize = 8_192;

/// Rows of a file that one thread decodes: of whole pages, so that none is decoded twice.
const ROWS_A_PIECE: u32 = 12 * PAGE_ROWS as u32;

/// Keys of attributes to choose from, as [`Query::attribute_keys`] gives them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttributeKeys {
    /// The most frequent first, equally frequent ones by owner and key.
    pub keys: Vec<AttributeKey>,
    /// How many different keys begin with the prefix, those beyond the limit included.
    pub total: u64,
    /// Spans that were not looked at, since there were more than were to be decoded, and that may
    /// have attributes in no column; those without any attribute are among them. With 0 all is
    /// exact and no key is missing.
    pub unread_spans: u64,
}

impl AttributeKeys {
    /// How many spans a search bar may well have decoded while somebody types.
    pub const DECODED_SPANS: u64 = 16_384;
}

/// A key of attributes, and how many spans have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttributeKey {
    /// The attribute in the words of [`Filter`](crate::query::Filter): `attributes['db.system']`.
    pub name: String,
    /// Whether spans have it or their resources.
    pub owner: Owner,
    /// The key: `db.system`.
    pub key: String,
    /// What its values are, each once. Of a key that a span has twice the first counts.
    pub types: Vec<ValueType>,
    /// Spans that have it, with a value or without.
    pub spans: u64,
    /// Whether so many have it; else at least so many, and `types` may lack some.
    pub is_exact: bool,
}

impl Query {
    /// The keys of attributes that begin with a text, in any case, in the spans that the query
    /// finds: the `limit` most frequent ones, of spans and of resources, with the types of their
    /// values and the number of spans that have them. An empty text asks for all keys. Of a query
    /// over requests the spans are all those of the requests that it finds; sessions have no
    /// attributes. Columns, order and limit of the query do not matter.
    ///
    /// Keys of resources, and keys that segments keep in columns of their own (common ones whose
    /// values agree in type), are counted exactly without their values. What else a span has is
    /// decoded, of unsealed spans all of it: of at most `decoded_spans` spans, unsealed ones
    /// first, then those of the latest segments, of each those of the latest traces first
    /// ([`AttributeKeys::DECODED_SPANS`]; [`u64::MAX`] for all). If there are more,
    /// [`AttributeKeys::unread_spans`] says how many, rare keys may be missing, and
    /// [`AttributeKey::is_exact`] says which counts are exact all the same.
    ///
    /// # Errors
    /// [`Error::QueryMemory`] when the keys take more memory than a query may; and as
    /// [`Query::stream`].
    pub async fn attribute_keys(
        self,
        prefix: &str,
        limit: usize,
        decoded_spans: u64,
    ) -> Result<AttributeKeys, Error> {
        let prefix = Arc::new(Prefix::new(prefix));
        let (execution, job, asked) = self.begin()?;
        let keys = async move {
            let condition = match asked.question.rows {
                Rows::Spans => asked.condition(&[])?,
                Rows::Requests => job.spans_of_requests(&asked).await?,
                Rows::Sessions => return Ok(Counted::new(&prefix)),
            };
            job.keys(condition, &prefix, decoded_spans).await
        };
        Ok(execution.run(keys).await?.first(limit))
    }
}

impl Job {
    /// The keys of the spans that fulfil a condition.
    async fn keys(
        &self,
        condition: Condition,
        prefix: &Arc<Prefix>,
        decoded_spans: u64,
    ) -> Result<Counted, Error> {
        let (condition, interrupt) = (Arc::new(condition), self.interrupt());
        let mut counted = Counted::new(prefix);
        let mut rest = decoded_spans;
        self.keys_of_hot(&condition, &mut counted, &mut rest)
            .await?;
        let mut partitions = self.sealed(&condition, &interrupt)?;
        partitions.sort_by_key(|matching| {
            let sealed = &matching.sealed;
            std::cmp::Reverse((sealed.partition.last_start, sealed.segment.summary().id))
        });
        for matching in partitions {
            self.keys_of_partition(&matching, &condition, &mut counted, &mut rest)
                .await?;
            counted.hold(&*interrupt)?;
            self.next_batch().await?;
        }
        Ok(counted)
    }

    /// Adds the keys of rows in memory, the latest of which are decoded.
    async fn keys_of_hot(
        &self,
        condition: &Arc<Condition>,
        counted: &mut Counted,
        rest: &mut u64,
    ) -> Result<(), Error> {
        let interrupt = self.interrupt();
        let parts = self.hot(condition, &interrupt)?.into_iter().enumerate();
        let found = on_each(parts, |(number, parts)| {
            let (condition, interrupt) = (Arc::clone(condition), Arc::clone(&interrupt));
            move || {
                let found = parts.into_iter().map(|part| {
                    let rows = part.find(&condition, &*interrupt)?;
                    Ok((part, rows))
                });
                Ok((number, found.collect::<Result<Vec<_>, Error>>()?))
            }
        });
        let mut found = found.await?;
        found.sort_by_key(|(number, _)| *number);
        let mut work = Vec::new();
        for (part, rows) in found
            .into_iter()
            .rev()
            .flat_map(|(_, part)| part.into_iter().rev())
        {
            let count = rows.count_set_bits() as u64;
            let left_out = count.saturating_sub(*rest);
            *rest -= count - left_out;
            counted.leave_out(left_out, HashSet::new());
            work.push((part, rows, left_out as usize));
        }
        let prefix = Arc::clone(&counted.prefix);
        let counts = on_each(work, |(part, rows, left_out)| {
            let (interrupt, prefix) = (Arc::clone(&interrupt), Arc::clone(&prefix));
            move || {
                let mut counted = Counted::new(&prefix);
                let count = || add_hot(&part, &rows, left_out, &mut counted, &*interrupt);
                interrupt.meter().time(Stage::Answer, count)?;
                counted.hold(&*interrupt)?;
                Ok(counted)
            }
        });
        for one in counts.await? {
            counted.add(one);
            counted.hold(&*interrupt)?;
        }
        Ok(())
    }

    /// Adds the keys of the rows of a partition.
    async fn keys_of_partition(
        &self,
        matching: &Arc<Matching>,
        condition: &Arc<Condition>,
        counted: &mut Counted,
        rest: &mut u64,
    ) -> Result<(), Error> {
        let rows = self.exactly(matching, condition).await?;
        let file = Arc::new(File::of(matching)?);
        let groups = row_groups(&rows).map(|group| part(&rows, rows_of_group(group)));
        let look = {
            let (matching, file) = (Arc::clone(matching), Arc::clone(&file));
            move |(known, groups): &mut OfGroups, rows: &RoaringBitmap| {
                let look = || file.in_columns(&matching, rows);
                let found = matching.interrupt.meter().time(Stage::Answer, look)?;
                groups.push((rows.clone(), found.others));
                known.add(found, &*matching.interrupt)
            }
        };
        let found = self.by_threads(groups.collect(), OfGroups::default, look);
        let (mut in_columns, mut groups) = OfGroups::default();
        for (of_thread, of_groups) in found.await? {
            in_columns.add(of_thread, &*matching.interrupt)?;
            groups.extend(of_groups);
        }
        groups.sort_unstable_by_key(|(rows, _)| std::cmp::Reverse(rows.min()));
        let (mut decoded, mut left_out) = (Vec::new(), 0);
        for (rows, others) in groups {
            let here = others.min(*rest);
            if here > 0 {
                decoded.push((rows, others - here));
            }
            *rest -= here;
            left_out += others - here;
        }
        counted.leave_out(left_out, file.certain(matching)?);

        let others = on_each(decoded, |(rows, left_out)| {
            let (matching, file) = (Arc::clone(matching), Arc::clone(&file));
            move || {
                let find = || file.others(&matching, &rows);
                let mut others = matching.interrupt.meter().time(Stage::Answer, find)?;
                others.remove_smallest(left_out);
                Ok(others)
            }
        });
        let others = others.await?.union();
        let pieces = row_groups(&others).flat_map(|group| {
            let rows = rows_of_group(group);
            let firsts = rows.clone().step_by(ROWS_A_PIECE as usize);
            firsts.map(move |first| first..rows.end.min(first.saturating_add(ROWS_A_PIECE)))
        });
        let pieces = pieces
            .map(|rows| part(&others, rows))
            .filter(|rows| !rows.is_empty())
            .map(Piece::Others);
        let count = {
            let matching = Arc::clone(matching);
            move |counted: &mut Counted, piece: &Piece| {
                let count = || match piece {
                    Piece::Columns(found) => file.add_columns(&matching, found, counted),
                    Piece::Others(rows) => file.add_others(&matching, rows, counted),
                };
                matching.interrupt.meter().time(Stage::Answer, count)
            }
        };
        let pieces = [Piece::Columns(in_columns)].into_iter().chain(pieces);
        let prefix = Arc::clone(&counted.prefix);
        let counts = self.by_threads(pieces.collect(), || Counted::new(&prefix), count);
        for one in counts.await? {
            counted.add(one);
        }
        Ok(())
    }
}

/// What a thread finds without decoding: what all of its row groups have in columns, and how many
/// rows of each may have attributes elsewhere.
type OfGroups = (InColumns, Vec<(RoaringBitmap, u64)>);

/// What one thread counts of a partition.
enum Piece {
    /// What columns and resources say.
    Columns(InColumns),
    /// Attributes of rows that lie in no column.
    Others(RoaringBitmap),
}

/// Adds the keys of rows in memory; the first ones, of which so many are left out, have only
/// their resources looked at.
fn add_hot(
    part: &HotPart,
    rows: &BooleanBuffer,
    left_out: usize,
    counted: &mut Counted,
    interrupt: &dyn Interrupt,
) -> Result<(), Error> {
    let read = |owner: Owner| part.values(&owner.column().into(), rows);
    let messages = read(Owner::Span)?;
    let messages = messages.as_binary_view().iter();
    for (row, message) in messages.enumerate().skip(left_out) {
        if row.is_multiple_of(ROWS_A_CHECK) {
            interrupt.check()?;
            counted.hold(interrupt)?;
        }
        if let Some(message) = message {
            counted.add_message(Owner::Span, message, 1, |_| false);
        }
    }
    let resources = read(Owner::Resource)?;
    let resources = resources.as_binary_view();
    let (firsts, places) = first_views(resources);
    let mut spans = vec![0; firsts.len()];
    for place in places.values() {
        if let Some(spans) = spans.get_mut(*place as usize) {
            *spans += 1;
        }
    }
    for (first, spans) in firsts.values().iter().zip(spans) {
        let row = *first as usize;
        if resources.is_valid(row) {
            counted.add_message(Owner::Resource, resources.value(row), spans, |_| false);
        }
    }
    Ok(())
}
