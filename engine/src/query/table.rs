//! The tables `spans`, `requests` and `sessions` of one team, as DataFusion sees them.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::DFSchema;
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use spanstore_format::segment::Column;
use spanstore_format::table::Table;

use super::condition;
use super::filter::Rows;
use super::job::Job;
use super::scan_exec::ScanExec;
use super::watched::external;
use crate::read::interrupt::Interrupt;
use crate::read::plan::plan;
use crate::read::scan::ScanPart;

/// Rows that a scan hands out at a time.
pub(super) const BATCH_ROWS: usize = 8_192;

/// The columns of a table that queries see.
pub(super) fn visible_columns(table: &Table) -> Vec<usize> {
    let columns = table.columns().iter().enumerate();
    let visible = columns.filter(|(_, column)| column.is_visible);
    visible.map(|(place, _)| place).collect()
}

/// The spans of one team in one snapshot, its requests, or its sessions.
#[derive(Debug)]
pub(super) struct RowTable {
    pub(super) rows: Rows,
    job: Job,
    columns: Vec<usize>,
    schema: SchemaRef,
}

impl RowTable {
    pub(super) fn new(rows: Rows, job: &Job) -> Result<Self> {
        let columns = visible_columns(rows.table());
        let schema = Arc::new(rows.table().schema().project(&columns)?);
        Ok(Self {
            rows,
            job: job.clone(),
            columns,
            schema,
        })
    }
}

#[async_trait]
impl TableProvider for RowTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    /// Every condition is evaluated again above the scan, which only skips
    /// what the indexes rule out. So no condition can get lost.
    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let compile = |expr, schema: &DFSchema| state.create_physical_expr(expr, schema);
        let condition = condition::for_indexes(filters, self.rows.table(), &compile);
        let job = match self.rows {
            Rows::Spans => self.job.clone(),
            Rows::Requests => {
                let ids = condition.constraints();
                let job = self.job.with_requests(&ids, None).await;
                job.map_err(external)?
            }
            Rows::Sessions => {
                let job = self
                    .job
                    .with_sessions(&condition.constraints(), None, None)
                    .await;
                job.map_err(external)?
            }
        };
        let interrupt: Arc<dyn Interrupt> = Arc::clone(&job.watch) as _;
        let parts = plan(&job.snapshot, &job.team, &condition, &interrupt);
        let parts = parts.map_err(external)?;
        let (columns, schema): (Vec<usize>, _) = match projection {
            Some(places) => (
                places
                    .iter()
                    .filter_map(|place| self.columns.get(*place).copied())
                    .collect(),
                Arc::new(self.schema.project(places)?),
            ),
            None => (self.columns.clone(), Arc::clone(&self.schema)),
        };
        let columns = columns.into_iter().map(Column::Stored).collect();
        let partitions = distributed(parts, state.config().target_partitions());
        let partitions = partitions.into_iter().map(Into::into).collect();
        let scan = ScanExec::new(partitions, columns, schema);
        Ok(Arc::new(scan.holding(job.rows())))
    }
}

/// Parts of a scan in at most `count` partitions with about as many rows each; at least one.
fn distributed(mut parts: Vec<ScanPart>, count: usize) -> Vec<Vec<ScanPart>> {
    parts.sort_by_key(|part| std::cmp::Reverse(part.rows()));
    let mut partitions: Vec<(u64, Vec<ScanPart>)> = Vec::new();
    partitions.resize_with(count.clamp(1, parts.len().max(1)), Default::default);
    for part in parts {
        if let Some((rows, partition)) = partitions.iter_mut().min_by_key(|(rows, _)| *rows) {
            *rows += part.rows();
            partition.push(part);
        }
    }
    let partitions = partitions.into_iter();
    partitions.map(|(_, partition)| partition).collect()
}
