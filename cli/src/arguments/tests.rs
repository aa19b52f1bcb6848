use std::time::Duration;

use clap::CommandFactory;
use spanstore::query::Rows;
use spanstore_format::interchange::{IdForm, InterchangeOptions, TimePrecision};

use super::*;

fn parse(line: &str) -> Result<Arguments, clap::Error> {
    Arguments::try_parse_from(std::iter::once("spanstore").chain(line.split_whitespace()))
}

#[test]
fn the_definition_is_consistent() {
    Arguments::command().debug_assert();
}

#[test]
fn global_options_stand_before_and_after_the_command() {
    for line in [
        "--store /s --team acme --format json usage",
        "usage --store /s --team acme --format json",
        "--team acme usage --format json --store /s",
    ] {
        let arguments = parse(line).unwrap();
        assert_eq!(
            arguments.options.store_directory(),
            Path::new("/s"),
            "{line}"
        );
        assert_eq!(arguments.options.team.as_str(), "acme", "{line}");
        assert_eq!(arguments.format().unwrap(), Format::Json, "{line}");
    }
    let arguments = parse("quota set 5 --team acme --store /s").unwrap();
    assert_eq!(arguments.options.team.as_str(), "acme");
    assert!(matches!(
        arguments.command,
        Command::Quota(QuotaArguments {
            command: QuotaCommand::Set { limit: 5 }
        })
    ));
}

#[test]
fn each_command_offers_its_own_formats() {
    for (line, format) in [
        ("query", Some(Format::Table)),
        ("query --format arrow", Some(Format::Arrow)),
        ("query --format tree", None),
        ("requests", Some(Format::Table)),
        ("requests --format parquet", Some(Format::Parquet)),
        ("requests --format tree", None),
        ("request a --format csv", Some(Format::Csv)),
        ("trace 1f", Some(Format::Tree)),
        ("trace 1f --format otlp-json", Some(Format::OtlpJson)),
        ("trace 1f --format parquet", None),
        ("export", Some(Format::OtlpJson)),
        ("export --format parquet", Some(Format::Parquet)),
        ("export --format csv", None),
        ("check --format json", Some(Format::Json)),
        ("check --format csv", None),
        ("generate --spans 1 --seed 1 --format json", None),
    ] {
        let arguments = parse(line).unwrap();
        match format {
            Some(format) => assert_eq!(arguments.format().unwrap(), format, "{line}"),
            None => assert_eq!(arguments.format().unwrap_err().exit_code(), 2, "{line}"),
        }
    }
}

#[test]
fn the_interchange_form_is_chosen_for_parquet_alone() {
    let options = |line| {
        let arguments = parse(line).unwrap();
        let Command::Export(export) = &arguments.command else {
            panic!("not export")
        };
        export.interchange(arguments.format().unwrap())
    };
    let plain = InterchangeOptions::default();
    assert_eq!(options("export --format parquet").unwrap(), plain);
    assert_eq!(options("export").unwrap(), plain);
    let same = "export --format parquet --ids hex --time-unit ns";
    assert_eq!(options(same).unwrap(), plain);
    let other = InterchangeOptions {
        ids: IdForm::Bytes,
        times: TimePrecision::Microseconds,
    };
    let line = "export --format parquet --ids bytes --time-unit us";
    assert_eq!(options(line).unwrap(), other);
    for line in [
        "export --ids hex",
        "export --format otlp-json --ids bytes",
        "export --format otlp-protobuf --time-unit ns",
    ] {
        assert_eq!(options(line).unwrap_err().exit_code(), 2, "{line}");
    }
}

#[test]
fn ingest_takes_files_and_standard_input() {
    let Command::Ingest(ingest) = parse("ingest --any-time a.json -").unwrap().command else {
        panic!("not ingest");
    };
    assert!(ingest.any_time);
    assert_eq!(ingest.input_format, InputFormat::Auto);
    assert_eq!(ingest.files, [PathBuf::from("a.json"), PathBuf::from("-")]);
}

#[test]
fn query_reads_columns_order_and_times() {
    let line = "query --columns name,duration --order oldest --since 2h --until 2026-11-20";
    let Command::Query(query) = parse(line).unwrap().command else {
        panic!("not query")
    };
    assert_eq!(
        query.columns.as_deref(),
        Some(&["name".to_owned(), "duration".to_owned()][..])
    );
    assert_eq!(query.order, Order::Oldest);
    let noon_before = 1_795_089_600_000_000_000;
    let (since, until) = query.selection.range(noon_before).unwrap();
    assert_eq!(since, Some(noon_before - 7_200_000_000_000));
    assert_eq!(until, Some(1_795_132_800_000_000_000));
    let late = query
        .selection
        .range(noon_before + 86_400_000_000_000)
        .unwrap_err();
    assert_eq!(late.exit_code(), 2);
}

#[test]
fn requests_have_orders_of_their_own_and_can_be_counted() {
    for (line, expected) in [
        ("requests", RowOrder::Newest),
        ("requests --order fastest", RowOrder::Fastest),
        ("requests --order spans", RowOrder::Spans),
        ("requests --order errors --total", RowOrder::Errors),
    ] {
        let Command::Requests(requests) = parse(line).unwrap().command else {
            panic!("not requests")
        };
        assert_eq!(requests.list.order, expected, "{line}");
        assert_eq!(requests.list.total, line.contains("total"), "{line}");
    }
    for command in ["count", "facets level", "top level", "timeline"] {
        for (option, rows) in [
            ("", Rows::Spans),
            (" --requests", Rows::Requests),
            (" --sessions", Rows::Sessions),
        ] {
            let counted = match parse(&format!("{command}{option}")).unwrap().command {
                Command::Count(count) => count.counted,
                Command::Facets(facets) => facets.counted,
                Command::Top(top) => top.counted,
                Command::Timeline(timeline) => timeline.counted,
                other => panic!("{other:?} counts nothing"),
            };
            assert_eq!(counted.of.rows(), rows, "{command}{option}");
        }
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    for line in [
        "",
        "ingest",
        "query --limit many",
        "query --order errors",
        "query --total",
        "query --requests",
        "requests --order worst",
        "requests --total --explain",
        "request",
        "request a b",
        "query --since yesterday",
        "trace",
        "trace xyz",
        "trace 00000000000000000000000000000000",
        "usage --month 2026-13",
        "quota",
        "quota set -1",
        "generate --spans 5",
        "generate --spans 5 --seed 1 --start 2026-01-01 --month 2026-01",
        "--team  usage --team",
        "export --format parquet --ids base64",
        "export --format parquet --time-unit s",
        "query --ids hex",
    ] {
        assert!(parse(line).is_err(), "{line}");
    }
}

#[test]
fn retention_is_a_time_or_a_word() {
    let hours = |hours| Ok(Retention::For(Duration::from_hours(hours)));
    for (text, expected) in [
        ("12h", hours(12)),
        ("30d", hours(720)),
        ("8w", hours(1_344)),
        ("0s", hours(0)),
        ("120m", hours(2)),
        ("forever", Ok(Retention::Forever)),
        ("default", Ok(Retention::Default)),
    ] {
        assert_eq!(text.parse(), expected, "{text}");
    }
    for text in [
        "",
        "d",
        "12",
        "-1d",
        "1y",
        "1.5d",
        "99999999999999999999d",
        "18446744073709551615w",
        "1é",
    ] {
        assert!(text.parse::<Retention>().is_err(), "{text}");
    }
}
