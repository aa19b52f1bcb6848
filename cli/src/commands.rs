//! The commands, one file each.

mod backup;
mod check;
mod columns;
mod compact;
mod compare;
mod confirm;
mod count;
mod demo;
mod export;
mod facets;
mod follow;
mod forget;
mod generate;
mod ingest;
mod inspect;
mod list;
mod manual;
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
mod teams;
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
use crate::time::{now_nanos, short};

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

/// What a command does with a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reads it, also while another process has it open.
    Read,
    /// Reads it, and what another process writes.
    Follow,
    /// Changes it.
    Write,
    /// Changes it, and makes it where there is none.
    Create,
}

/// What a command that works on a store gets.
struct Context<'a> {
    options: &'a GlobalOptions,
    store: Store,
    team: Team,
    format: Format,
    out: Out<'a>,
    is_team_known: bool,
    /// What adds up the cost, where that is asked for in place of the answer.
    cost: Option<Meter>,
}

/// Runs a command.
///
/// # Errors
/// Whatever keeps the command from its end.
pub fn run(arguments: &Arguments, out: Out<'_>) -> Result<Outcome, Error> {
    let format = arguments.format()?;
    let open = |access, out| Context::open(&arguments.options, access, format, out);
    let look = |out| open(Access::Read, out);
    let read = |out| Ok::<_, Error>(look(out)?.with_known_team());
    let write = |out| open(Access::Write, out);
    let create = |out| open(Access::Create, out);
    match &arguments.command {
        Command::Generate(generate) => generate::run(generate, out)?,
        Command::Columns(it) => columns::run(it, format, out)?,
        Command::Completions(it) => manual::completions(it, out)?,
        Command::Man(it) => manual::man(it)?,
        Command::Demo => demo::run(&arguments.options, out)?,
        Command::Repair(repair) => repair::run(repair, format, out)?,
        Command::Ingest(it) => create(out)?.run(|context| ingest::run(context, it))?,
        Command::Quota(it) => create(out)?.run(|context| quota::run(context, it))?,
        Command::Query(it) => read(out)?.run(|context| query::run(context, it))?,
        Command::Requests(it) => {
            let rows = Rows::Requests;
            read(out)?.run(|context| pages::run(context, rows, &it.selection, &it.list))?;
        }
        Command::Request(it) => read(out)?.run(|context| request::run(context, it))?,
        Command::Count(it) => read(out)?.run(|context| count::run(context, it))?,
        Command::Facets(it) => read(out)?.run(|context| facets::run(context, it))?,
        Command::Top(it) => read(out)?.run(|context| top::run(context, it))?,
        Command::Suggest(it) => read(out)?.run(|context| suggest::run(context, it))?,
        Command::Compare(it) => read(out)?.run(|context| compare::run(context, it))?,
        Command::Timeline(it) => read(out)?.run(|context| timeline::run(context, it))?,
        Command::Sql(it) => read(out)?.run(|context| sql::run(context, it))?,
        Command::Trace(it) => read(out)?.run(|context| trace::run(context, it))?,
        Command::Session(it) => {
            open(it.command.access(), out)?.run(|context| session::run(context, it))?;
        }
        Command::PageTrace(it) => {
            open(it.command.access(), out)?.run(|context| session::page_trace(context, it))?;
        }
        Command::Sessions(it) => {
            let rows = Rows::Sessions;
            read(out)?.run(|context| pages::run(context, rows, &it.selection, &it.list))?;
        }
        Command::Tail(it) => open(Access::Follow, out)?.run(|context| follow::run(context, it))?,
        Command::Teams(it) => look(out)?.run(|context| teams::run(context, it))?,
        Command::Usage(it) => read(out)?.run(|context| usage::run(context, it))?,
        Command::Export(it) => {
            let options = it.interchange(format)?;
            read(out)?.run(|context| export::run(context, it, options))?;
        }
        Command::Seal => write(out)?.run(seal::run)?,
        Command::Inspect(it) => look(out)?.run(|context| inspect::run(context, it))?,
        Command::Compact(it) => write(out)?.run(|context| compact::run(context, it))?,
        Command::Retain(it) => open(it.access(), out)?.run(|context| retain::run(context, it))?,
        Command::Forget(it) => write(out)?.run(|context| forget::run(context, it))?,
        Command::Backup(it) => write(out)?.run(|context| backup::run(context, it))?,
        Command::Check => return write(out)?.run(check::run),
    }
    Ok(Outcome::Done)
}

impl<'a> Context<'a> {
    fn open(
        options: &'a GlobalOptions,
        access: Access,
        format: Format,
        out: Out<'a>,
    ) -> Result<Self, Error> {
        let opened = now_nanos();
        let (store, team) = open(options, access)?;
        let is_for_people = matches!(format, Format::Table | Format::Tree);
        if access == Access::Read && is_for_people && !store.recovered().is_settled {
            let seen = short(opened);
            eprintln!(
                "The store is being written, or was not closed: seen as it was at {seen} UTC."
            );
        }
        Ok(Self {
            options,
            store,
            team,
            format,
            out,
            is_team_known: true,
            cost: None,
        })
    }

    /// Notes whether the team is known: the name may be misspelled, and a line below the answer says so.
    fn with_known_team(mut self) -> Self {
        self.is_team_known = self.store.has_team(self.team.id()).unwrap_or(true);
        self
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
        if !self.is_team_known {
            let team = self.team.id();
            eprintln!("The store has no spans of team {team}; `teams` lists those that it has.");
        }
        Ok(value)
    }
}

/// Opens the store, and the team of it that was named.
fn open(options: &GlobalOptions, access: Access) -> Result<(Store, Team), Error> {
    let store = Store::open(options.store_directory(), store_options(options, access))?;
    let team = store.team(&options.team);
    Ok((store, team))
}

/// A person waits for the answer, so queries have more time and memory than in a
/// service.
fn store_options(options: &GlobalOptions, access: Access) -> StoreOptions {
    let query_limits = QueryLimits {
        time: Duration::from_secs(options.time_limit),
        memory_bytes: 1 << 30,
        ..QueryLimits::default()
    };
    StoreOptions {
        create: access == Access::Create,
        read_only: matches!(access, Access::Read | Access::Follow),
        query_limits,
        ..StoreOptions::default()
    }
}

/// The tasks of one query.
fn runtime() -> Result<Runtime, Error> {
    Runtime::new().map_err(Error::io("starting threads"))
}
