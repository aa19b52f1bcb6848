//! `export`: everything of the team.

use std::fs::{OpenOptions, Permissions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use futures::StreamExt;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use spanstore::query::Order;
use spanstore::{Spans, Team};
use spanstore_format::interchange::{self, InterchangeOptions};
use spanstore_format::otlp;

use super::{Context, Out, runtime};
use crate::arguments::{ExportArguments, ExportedTable, Format};
use crate::error::Error;

/// Rows of a row group. Readers such as DuckDB give each thread one, and a row group
/// is in memory until it is written.
const ROW_GROUP_ROWS: usize = 128 << 10;

/// How the name of a file begins that is being written.
const BESIDE: &str = ".spanstore-export-";

pub(super) fn run(
    context: &mut Context<'_>,
    arguments: &ExportArguments,
    options: InterchangeOptions,
) -> Result<(), Error> {
    let export = |format, team: &Team, out: Out<'_>| match arguments.table {
        ExportedTable::Spans => export(team, format, options, out),
        ExportedTable::Requests => runtime()?.block_on(export_requests(team, options, out)),
    };
    let Some(path) = &arguments.out else {
        return export(context.format, &context.team, context.out);
    };
    write_file(path, |out| export(context.format, &context.team, out))
}

/// Writes a file. What was there stays until all is written; links and what is no file are
/// written to as they are.
fn write_file(path: &Path, write: impl FnOnce(Out<'_>) -> Result<(), Error>) -> Result<(), Error> {
    let failed = || Error::io(path.display().to_string());
    let mut kept = None;
    if let Ok(present) = path.symlink_metadata() {
        // What may not be written is not replaced either.
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).open(path);
        let file = file.map_err(failed())?;
        if !present.is_file() {
            // A link may lead to a file; a device has no length.
            if file.metadata().is_ok_and(|file| file.is_file()) {
                file.set_len(0).map_err(failed())?;
            }
            let mut out = BufWriter::new(file);
            write(&mut out)?;
            return out.flush().map_err(failed());
        }
        kept = Some(present.permissions());
    }
    let mut beside = tempfile::Builder::new();
    beside
        .prefix(BESIDE)
        .permissions(Permissions::from_mode(0o666));
    let file = beside.tempfile_in(directory_of(path)).map_err(failed())?;
    if let Some(permissions) = kept {
        file.as_file()
            .set_permissions(permissions)
            .map_err(failed())?;
    }
    let mut out = BufWriter::new(file);
    write(&mut out)?;
    let file = out.into_inner();
    let file = file.map_err(|error| failed()(error.into_error()))?;
    file.as_file().sync_all().map_err(failed())?;
    file.persist(path).map_err(|error| failed()(error.error))?;
    Ok(())
}

/// The directory that a file is in, or is to be in.
fn directory_of(path: &Path) -> &Path {
    let parent = path.parent();
    let parent = parent.filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or_else(|| Path::new("."))
}

fn export(
    team: &Team,
    format: Format,
    options: InterchangeOptions,
    out: Out<'_>,
) -> Result<(), Error> {
    let chunks = team.export()?;
    match format {
        Format::Parquet => write_parquet(chunks, options, out)?,
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

/// Writes the interchange form, in the order of the store.
fn write_parquet(
    chunks: impl Iterator<Item = Result<Spans, spanstore::Error>>,
    options: InterchangeOptions,
    out: Out<'_>,
) -> Result<(), Error> {
    let schema = interchange::schema(options);
    let mut writer = ArrowWriter::try_new(&mut *out, schema, Some(properties()))?;
    for spans in chunks {
        for batch in spans?.batches() {
            for piece in interchange::pieces(batch, options) {
                writer.write(&piece?)?;
            }
        }
    }
    writer.close()?;
    out.flush()?;
    Ok(())
}

/// Writes the requests, oldest first.
async fn export_requests(
    team: &Team,
    options: InterchangeOptions,
    out: Out<'_>,
) -> Result<(), Error> {
    let query = team.requests().order(Order::OldestFirst);
    let mut rows = query
        .columns(interchange::requests_columns())?
        .stream()
        .await?;
    let schema = interchange::requests_schema(options);
    let mut writer = ArrowWriter::try_new(&mut *out, schema, Some(properties()))?;
    while let Some(rows) = rows.next().await {
        let rows = rows.map_err(spanstore::Error::from)?;
        let rows = interchange::requests(team.id().as_str(), &rows, options)?;
        writer.write(&rows)?;
    }
    writer.close()?;
    out.flush()?;
    Ok(())
}

fn properties() -> WriterProperties {
    WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .build()
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
