//! The columns whose values are counted.

use spanstore_format::requests::RequestColumn;
use spanstore_format::segment::Column;
use spanstore_format::segment::promotion::access::Attribute;

use crate::error::Error;
use crate::query::filter::Rows;
use crate::query::suggest::Prefix;

/// A column whose values are counted.
#[derive(Debug, Clone)]
pub(in crate::query) struct FacetColumn {
    pub(super) column: Column,
    /// Whether its values are lists of values, each of which counts.
    pub(super) is_list: bool,
    /// Different values that are counted, at most.
    pub(super) most_values: usize,
    /// What the values begin with that are counted.
    pub(super) prefix: Prefix,
}

impl FacetColumn {
    pub(in crate::query) fn of_name(rows: Rows, name: &str) -> Result<Self, Error> {
        let table = rows.table();
        let column = rows.place_of(name).and_then(|place| table.column(place));
        let column = column.ok_or_else(|| rows.unknown_column(name, |column| column.is_facet))?;
        let name = column.name;
        if !column.is_facet {
            return Err(Error::NoFacet { name });
        }
        let (is_list, column) = match (rows, RequestColumn::of_name(name)) {
            // What answered is what the spans say, of which each may say another.
            (Rows::Requests, Some(RequestColumn::Resource | RequestColumn::Resources)) => {
                (true, RequestColumn::Resources.name())
            }
            (Rows::Requests, Some(RequestColumn::Services)) => (true, name),
            _ => (false, name),
        };
        let place = rows.place_of(column);
        let place = place.ok_or_else(|| rows.unknown_column(column, |column| column.is_facet))?;
        Ok(Self {
            column: Column::Stored(place),
            is_list,
            most_values: usize::MAX,
            prefix: Prefix::default(),
        })
    }

    /// An attribute, if it has not more different values.
    pub(in crate::query) fn of_attribute(attribute: Attribute, most_values: usize) -> Self {
        Self {
            column: Column::Attribute(attribute),
            is_list: false,
            most_values,
            prefix: Prefix::default(),
        }
    }

    /// The column, of whose values only those are counted that begin with a text; of lists all
    /// are.
    pub(in crate::query) fn beginning_with(self, prefix: &Prefix) -> Self {
        let prefix = if self.is_list {
            Prefix::default()
        } else {
            prefix.clone()
        };
        Self { prefix, ..self }
    }
}

/// Columns that are facets, by their names.
pub(super) fn facet_columns<'a>(
    rows: Rows,
    names: impl IntoIterator<Item = &'a str>,
) -> Result<Vec<FacetColumn>, Error> {
    let columns = names.into_iter();
    columns
        .map(|name| FacetColumn::of_name(rows, name))
        .collect()
}
