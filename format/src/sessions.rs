//! The one table of the columns of a session: what the registry says of it, and what the
//! requests with its id say. No file has such rows; they are put together for each question.

use std::sync::LazyLock;

use crate::table::{Roles, Table, TableColumn, ValueSet, table_columns};

/// A column of texts that a session may lack.
const fn text(name: &'static str) -> TableColumn {
    TableColumn::text(name).nullable()
}

table_columns! {
    /// A column of a session.
    ///
    /// What a session was started with comes from the registry, and is null where that does
    /// not know it. A session that was not started in the store is there too once it is the
    /// `session_id` of a request: that of the root, else of the earliest span that has one. These
    /// are its requests.
    SessionColumn;
    /// The tenant.
    TeamId: TableColumn::text("team_id").hidden();
    /// Tells sessions apart that start at one time: a hash of the id.
    SessionKey: TableColumn::id("session_key", 8).hidden();
    /// Its id.
    SessionId: TableColumn::text("session_id");
    /// Who started it; of one that was not started here the user of its earliest request
    /// that has one.
    UserId: text("user_id").facet();
    /// `session`, or `page_trace` for one page load; null for one that was not started here.
    Kind: text("kind").with_values(ValueSet::of(&["session", "page_trace"])).facet();
    /// `open` or `stopped`; null for one that was not started here.
    State: text("state").with_values(ValueSet::of(&["open", "stopped"])).facet();
    /// When it was started, ns UTC; of one that was not started here the start of its earliest
    /// request.
    StartTime: TableColumn::time("start_time");
    /// When it was stopped, ns UTC; null while it is open.
    StoppedTime: TableColumn::time("stopped_time").nullable();
    /// When its earliest request started, ns UTC; null when it has none.
    FirstSeen: TableColumn::time("first_seen").nullable();
    /// When the last one of its requests ended, ns UTC; null when it has none.
    LastSeen: TableColumn::time("last_seen").nullable();
    /// From the first to the last that was seen of it, ns; 0 when it has no request.
    Duration: TableColumn::int64("duration");
    /// How many requests it has.
    Requests: TableColumn::int64("requests");
    /// How many spans these have.
    Spans: TableColumn::int64("spans");
    /// How many of these spans have the level `error` or `fatal`.
    Errors: TableColumn::int64("errors");
    /// The environment: `preview` or `production`.
    Environment: text("environment")
        .with_values(ValueSet::of(&["preview", "production"])).facet();
    /// The host whose requests are traced.
    Host: text("host").facet();
    /// The project.
    ProjectId: text("project_id").facet();
    /// The deployment.
    DeploymentId: text("deployment_id").facet();
    /// The browser.
    Browser: text("browser").facet();
    /// The session that was restarted as this one.
    Predecessor: text("predecessor");
}

/// The table of sessions.
pub fn table() -> &'static Table {
    static TABLE: LazyLock<Table> = LazyLock::new(|| {
        const ORDER: &[usize] = &[
            SessionColumn::TeamId.place(),
            SessionColumn::StartTime.place(),
            SessionColumn::SessionKey.place(),
        ];
        const IDENTITY: &[usize] = &[SessionColumn::SessionKey.place()];
        let (team, start) = (
            SessionColumn::TeamId.place(),
            SessionColumn::StartTime.place(),
        );
        let roles = Roles::plain(team, start, ORDER, IDENTITY);
        Table::new("sessions", 1, COLUMNS, roles)
    });
    &TABLE
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::requests::RequestColumn;

    #[test]
    fn columns_of_one_name_hold_values_of_one_type() {
        for column in SessionColumn::ALL {
            assert_eq!(SessionColumn::of_name(column.name()), Some(*column));
            if let Some(of_requests) = RequestColumn::of_name(column.name()) {
                let (one, other) = (column.description(), of_requests.description());
                assert_eq!(one.value, other.value, "{}", column.name());
            }
        }
    }
}
