//! The read path without SQL: what a question has to look at ([`plan`]), which rows the
//! indexes and the values tell ([`matching`]), in which order they come ([`ordered`]).

#[cfg_attr(
    not(feature = "query"),
    expect(dead_code, reason = "only filters ask for numbers")
)]
pub(crate) mod bounded;
#[cfg_attr(
    not(feature = "query"),
    expect(dead_code, reason = "only filters ask for more than ids")
)]
pub(crate) mod condition;
pub(crate) mod constraints;
#[cfg(feature = "query")]
pub(crate) mod explain;
#[cfg(feature = "query")]
pub(crate) mod group;
#[cfg_attr(
    not(feature = "query"),
    expect(dead_code, reason = "only filters ask for values")
)]
pub(crate) mod hot;
pub(crate) mod indexes;
pub(crate) mod interrupt;
pub(crate) mod lookup;
#[cfg_attr(
    not(feature = "query"),
    expect(dead_code, reason = "only filters ask for values")
)]
pub(crate) mod mask;
#[cfg_attr(
    not(feature = "query"),
    expect(dead_code, reason = "only filters ask for values")
)]
pub(crate) mod matching;
pub(crate) mod meter;
#[cfg(feature = "query")]
pub(crate) mod ordered;
pub(crate) mod plan;
#[cfg(feature = "query")]
pub(crate) mod requests;
#[cfg_attr(
    not(feature = "query"),
    expect(dead_code, reason = "queries alone fetch rows of parts")
)]
pub(crate) mod scan;
#[cfg(feature = "query")]
pub(crate) mod stored;
#[cfg(test)]
#[cfg(feature = "query")]
mod tests;
pub(crate) mod users;
pub(crate) mod visibility;
