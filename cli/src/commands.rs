//! The commands, one file each.

mod backup;
mod check;
mod columns;
mod compact;
mod compare;
mod count;
mod demo;
mod export;
mod facets;
mod forget;
mod generate;
mod ingest;
mod inspect;
mod list;
mod pages;
mod query;
mod quota;
mod repair;
mod request;
mod retain;
mod rows;
mod seal;
mod session;
mod sql;
mod suggest;
mod timeline;
mod top;
mod trace;
mod usage;

use std::io::Write;
use std::time::Duration;

use arrow::array::RecordBatch;
use spanstore::query::{Query, Rows};
use spanstore::{Meter, QueryLimits, Store, StoreOptions, Team};
use tokio::runtime::Runtime;

use crate::arguments::{Arguments, Command, Format, GlobalOptions, Selection};
use crate::error::Error;
use crate::output::RowWriter;

/// Where the output of a command goes.
type Out<'a> = &'a mut (dyn Write + Send);

/// How a command that did not fail ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All is well.
    Done,
    /// `check` found damage.
    Damaged,
}

impl Outcome {
    /// The exit code of the process.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Damaged => 3,
        }
    }
}

/// What a command that works on a store gets.
struct Context<'a> {
    store: Store,
    team: Team,
    format: Format,
    out: Out<'a>,
    /// What adds up the cost, where that is asked for in place of the answer.
    cost: Option<Meter>,
}

/// Runs a command.
///
/// # Errors
/// Whatever keeps the command from its end.
pub fn run(arguments: &Arguments, out: Out<'_>) -> Result<Outcome, Error> {
    let format = arguments.format()?;
    let open = |create, out| Context::open(&arguments.options, create, format, out);
    match &arguments.command {
        Command::Generate(generate) => generate::run(generate, out)?,
        Command::Columns(it) => columns::run(it, format, out)?,
        Command::Demo => demo::run(&arguments.options, out)?,
        Command::Repair(repair) => repair::run(repair, format, out)?,
        Command::Ingest(ingest) => open(true, out)?.run(|context| ingest::run(context, ingest))?,
        Command::Quota(quota) => open(true, out)?.run(|context| quota::run(context, quota))?,
        Command::Query(query) => open(false, out)?.run(|context| query::run(context, query))?,
        Command::Requests(it) => {
            let rows = Rows::Requests;
            open(false, out)?.run(|context| pages::run(context, rows, &it.selection, &it.list))?;
        }
        Command::Request(it) => open(false, out)?.run(|context| request::run(context, it))?,
        Command::Count(count) => open(false, out)?.run(|context| count::run(context, count))?,
        Command::Facets(it) => open(false, out)?.run(|context| facets::run(context, it))?,
        Command::Top(it) => open(false, out)?.run(|context| top::run(context, it))?,
        Command::Suggest(it) => open(false, out)?.run(|context| suggest::run(context, it))?,
        Command::Compare(it) => open(false, out)?.run(|context| compare::run(context, it))?,
        Command::Timeline(it) => open(false, out)?.run(|context| timeline::run(context, it))?,
        Command::Sql(sql) => open(false, out)?.run(|context| sql::run(context, sql))?,
        Command::Trace(trace) => open(false, out)?.run(|context| trace::run(context, trace))?,
        Command::Session(it) => {
            open(it.command.may_be_first(), out)?.run(|context| session::run(context, it))?;
        }
        Command::PageTrace(it) => {
            open(true, out)?.run(|context| session::page_trace(context, it))?;
        }
        Command::Sessions(it) => {
            let rows = Rows::Sessions;
            open(false, out)?.run(|context| pages::run(context, rows, &it.selection, &it.list))?;
        }
        Command::Usage(usage) => open(false, out)?.run(|context| usage::run(context, usage))?,
        Command::Export(export) => {
            let options = export.interchange(format)?;
            open(false, out)?.run(|context| export::run(context, export, options))?;
        }
        Command::Seal => open(false, out)?.run(seal::run)?,
        Command::Inspect(it) => open(false, out)?.run(|context| inspect::run(context, it))?,
        Command::Compact(it) => open(false, out)?.run(|context| compact::run(context, it))?,
        Command::Retain(it) => open(false, out)?.run(|context| retain::run(context, it))?,
        Command::Forget(it) => open(false, out)?.run(|context| forget::run(context, it))?,
        Command::Backup(it) => open(false, out)?.run(|context| backup::run(context, it))?,
        Command::Check => return open(false, out)?.run(check::run),
    }
    Ok(Outcome::Done)
}

impl<'a> Context<'a> {
    fn open(
        options: &GlobalOptions,
        create: bool,
        format: Format,
        out: Out<'a>,
    ) -> Result<Self, Error> {
        let store = Store::open(options.store_directory(), store_options(options, create))?;
        let team = store.team(&options.team);
        Ok(Self {
            store,
            team,
            format,
            out,
            cost: None,
        })
    }

    /// A query for all rows of the team.
    fn query(&self, rows: Rows) -> Query {
        match rows {
            Rows::Spans => self.team.query(),
            Rows::Requests => self.team.requests(),
            Rows::Sessions => self.team.sessions(),
        }
    }

    /// A query for the rows that a command looks at. Where that is asked for, says first
    /// how they are found.
    fn select(&mut self, rows: Rows, selection: &Selection) -> Result<Query, Error> {
        if selection.explain {
            let query = selection.apply(self.query(rows))?;
            let explained = runtime()?.block_on(query.explain())?;
            self.explain(&explained)?;
        }
        selection.apply(self.query(rows))
    }

    /// Says how an answer is found; what it costs takes its place.
    fn explain(&mut self, how: &str) -> Result<(), Error> {
        write!(self.out, "{how}").map_err(Error::io("writing"))?;
        let meter = self.cost.insert(Meter::default());
        self.team = self.team.metered(meter);
        Ok(())
    }

    /// Writes what the answer cost.
    fn write_cost(&mut self) -> Result<(), Error> {
        let stats = self.cost.as_ref().map(Meter::stats).unwrap_or_default();
        writeln!(self.out, "{stats}").map_err(Error::io("writing"))
    }

    /// Writes all rows of an answer, or what they cost.
    fn write(&mut self, rows: &RecordBatch) -> Result<(), Error> {
        if self.cost.is_some() {
            return self.write_cost();
        }
        let mut writer = RowWriter::new(self.format, rows.schema(), &mut *self.out)?;
        writer.write(rows)?;
        writer.finish()?;
        Ok(())
    }

    /// Runs a command and closes the store, whatever became of the command.
    fn run<T>(mut self, command: impl FnOnce(&mut Self) -> Result<T, Error>) -> Result<T, Error> {
        let result = command(&mut self);
        let closed = self.store.close();
        let value = result?;
        closed?;
        Ok(value)
    }
}

/// A person waits for the answer, so queries have more time and memory than in a
/// service.
fn store_options(options: &GlobalOptions, create: bool) -> StoreOptions {
    let query_limits = QueryLimits {
        time: Duration::from_secs(options.time_limit),
        memory_bytes: 1 << 30,
        ..QueryLimits::default()
    };
    StoreOptions {
        create,
        query_limits,
        ..StoreOptions::default()
    }
}

/// The tasks of one query.
fn runtime() -> Result<Runtime, Error> {
    Runtime::new().map_err(Error::io("starting threads"))
}
