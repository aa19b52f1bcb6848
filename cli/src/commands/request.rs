//! `request`: the requests that have one request id, oldest first.

use spanstore::query::Rows;

use super::{Context, list};
use crate::arguments::RequestArguments;
use crate::error::Error;

pub(super) fn run(context: &mut Context<'_>, arguments: &RequestArguments) -> Result<(), Error> {
    // As the header has it, the regions that the request passed stand before the id.
    let id = arguments.request_id.rsplit("::").next().unwrap_or_default();
    if list::write_with_id(context, Rows::Requests, "request_id", id)? == 0 {
        eprintln!("The team has no request of the id {id}.");
    }
    Ok(())
}
