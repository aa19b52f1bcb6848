//! `generate`: the sample application's traces as OTLP JSON lines.

use spanstore_format::otlp;

use super::Out;
use crate::arguments::GenerateArguments;
use crate::error::Error;
use crate::generate::Application;
use crate::time::{DAY, now_nanos};

pub(super) fn run(arguments: &GenerateArguments, out: Out<'_>) -> Result<(), Error> {
    let now = now_nanos();
    let application = |start| Application::new(arguments.seed, start);
    let application = match (arguments.month, arguments.start) {
        (Some(month), _) => {
            let start = month.start_nanos();
            // The last traces end within the month too.
            application(start).over(month.end_nanos() - start - DAY / 24)
        }
        (None, Some(start)) => application(start.resolve(now)),
        (None, None) => application(now - now.rem_euclid(DAY) - DAY),
    };
    for request in application.requests(arguments.spans) {
        writeln!(out, "{}", otlp::json::encode(&request))?;
    }
    out.flush()?;
    Ok(())
}
