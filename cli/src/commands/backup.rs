//! `backup`: a copy of the store.

use super::Context;
use crate::arguments::BackupArguments;
use crate::error::Error;
use crate::output::Report;

pub(super) fn run(context: &mut Context<'_>, arguments: &BackupArguments) -> Result<(), Error> {
    context.store.backup(&arguments.directory)?;
    Report::new()
        .with("backup", arguments.directory.display().to_string())
        .write(context.format, &mut context.out)
}
