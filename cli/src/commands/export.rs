//! `export`: everything of the team.

use std::fs::File;
use std::io::BufWriter;

use spanstore::{Spans, Team};
use spanstore_format::otlp;
use spanstore_format::span::schema;

use super::{Context, Out};
use crate::arguments::{ExportArguments, Format};
use crate::error::Error;
use crate::output::RowWriter;

pub(super) fn run(context: &mut Context<'_>, arguments: &ExportArguments) -> Result<(), Error> {
    let Some(path) = &arguments.out else {
        return export(&context.team, context.format, context.out);
    };
    let name = path.display().to_string();
    let file = File::create(path).map_err(Error::io(&name))?;
    let mut out = BufWriter::new(file);
    export(&context.team, context.format, &mut out)?;
    let file = out
        .into_inner()
        .map_err(|error| Error::io(&name)(error.into_error()))?;
    file.sync_all().map_err(Error::io(&name))
}

fn export(team: &Team, format: Format, out: Out<'_>) -> Result<(), Error> {
    let chunks = team.export()?;
    match format {
        Format::Parquet => {
            let mut writer = RowWriter::new(Format::Parquet, schema(), out)?;
            for spans in chunks {
                for batch in spans?.batches() {
                    writer.write(batch)?;
                }
            }
            writer.finish()?;
        }
        Format::OtlpProtobuf => {
            // Requests that follow each other read as one.
            let encode = |spans: &Spans| Ok(otlp::protobuf::encode(&spans.to_otlp()?));
            write_chunks(chunks, out, encode)?;
        }
        _ => write_chunks(chunks, out, |spans| {
            let mut line: Vec<u8> = otlp::json::encode(&spans.to_otlp()?).into();
            line.push(b'\n');
            Ok(line)
        })?,
    }
    Ok(())
}

fn write_chunks(
    chunks: impl Iterator<Item = Result<Spans, spanstore::Error>>,
    out: Out<'_>,
    encode: impl Fn(&Spans) -> Result<Vec<u8>, Error>,
) -> Result<(), Error> {
    for spans in chunks {
        out.write_all(&encode(&spans?)?)?;
    }
    out.flush()?;
    Ok(())
}
