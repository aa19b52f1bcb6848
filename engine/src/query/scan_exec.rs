//! The scan of a table, as a node of DataFusion's plans.
//!
//! A projection right above it that takes columns and single attributes becomes
//! part of it, so that `attributes['key']` reads the promoted column of each
//! segment that has one, instead of all attributes of every row.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr, ScalarFunctionExpr};
use datafusion::physical_plan::coop::cooperative;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, SchedulingType};
use datafusion::physical_plan::expressions::{Column as ColumnExpr, Literal};
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties,
};
use spanstore_format::segment::Column;

use super::functions::ReadAttribute;
use super::job::{Holding, new_bytes};
use super::memory::Held;
use super::table::BATCH_ROWS;
use super::watched::external;
use crate::read::scan::ScanPart;

/// Reads parts of a scan, some in each of its partitions.
#[derive(Debug)]
pub(super) struct ScanExec {
    partitions: Vec<Arc<[ScanPart]>>,
    columns: Arc<[Column]>,
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
    /// Memory of rows that were put together for it.
    _rows: Option<Arc<Holding>>,
}

impl ScanExec {
    /// The scan with the memory of the rows that were put together for it.
    pub(super) fn holding(self, rows: Option<Arc<Holding>>) -> Self {
        Self {
            _rows: rows,
            ..self
        }
    }

    /// A scan of columns; the fields of `schema` name them.
    pub(super) fn new(
        partitions: Vec<Arc<[ScanPart]>>,
        columns: Arc<[Column]>,
        schema: SchemaRef,
    ) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&schema)),
            Partitioning::UnknownPartitioning(partitions.len()),
            EmissionType::Incremental,
            Boundedness::Bounded,
        )
        .with_scheduling_type(SchedulingType::Cooperative);
        Self {
            partitions,
            columns,
            schema,
            properties: Arc::new(properties),
            _rows: None,
        }
    }

    /// The column that an expression over the scan's columns is, if it is one.
    fn column_of(&self, expr: &Arc<dyn PhysicalExpr>) -> Option<Column> {
        let column = |expr: &Arc<dyn PhysicalExpr>| {
            let column = expr.downcast_ref::<ColumnExpr>()?;
            self.columns.get(column.index()).cloned()
        };
        if let Some(column) = column(expr) {
            return Some(column);
        }
        let call = expr.downcast_ref::<ScalarFunctionExpr>()?;
        let implementation: &dyn Any = call.fun().inner().as_ref();
        let function = implementation.downcast_ref::<ReadAttribute>()?;
        let [messages, key] = call.args() else {
            return None;
        };
        let key = key.downcast_ref::<Literal>()?.value();
        let attribute = function.attribute(key.try_as_str().flatten()?);
        let owner = Column::from(attribute.owner.column());
        (column(messages)? == owner).then_some(Column::Attribute(attribute))
    }
}

impl DisplayAs for ScanExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self
            .schema
            .fields()
            .iter()
            .map(|field| field.name().as_str())
            .collect();
        write!(f, "ScanExec: columns=[{}]", names.join(", "))
    }
}

impl ExecutionPlan for ScanExec {
    fn name(&self) -> &'static str {
        "ScanExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if children.is_empty() {
            Ok(self)
        } else {
            Err(DataFusionError::Internal("a scan has no children".into()))
        }
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let Some(parts) = self.partitions.get(partition).cloned() else {
            let message = format!("a scan has no partition {partition}");
            return Err(DataFusionError::Internal(message));
        };
        let (columns, schema) = (Arc::clone(&self.columns), Arc::clone(&self.schema));
        // The batch that was read last, until the next one is asked for.
        let held = Held::nothing(context.memory_pool(), "a batch of a scan");
        let held = Arc::new(held);
        let named = Arc::clone(&schema);
        let batches = (0..parts.len()).flat_map(move |number| {
            let part = parts.get(number).cloned();
            let (columns, named) = (Arc::clone(&columns), Arc::clone(&named));
            let held = Arc::clone(&held);
            part.into_iter().flat_map(move |part| {
                let batches = part.read(&columns, BATCH_ROWS);
                let batches = batches.unwrap_or_else(|error| Box::new(std::iter::once(Err(error))));
                let (named, held) = (Arc::clone(&named), Arc::clone(&held));
                batches.map(move |batch| {
                    let batch = batch.map_err(external)?;
                    held.set(new_bytes(&part, &batch))?;
                    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
                    let columns = batch.columns().to_vec();
                    let named = Arc::clone(&named);
                    Ok(RecordBatch::try_new_with_options(named, columns, &options)?)
                })
            })
        });
        let stream = RecordBatchStreamAdapter::new(schema, futures::stream::iter(batches));
        // Mapped files are always ready, so nothing else yields here.
        Ok(Box::pin(cooperative(stream)))
    }

    fn try_swapping_with_projection(
        &self,
        projection: &ProjectionExec,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let mut columns = Vec::with_capacity(projection.expr().len());
        let mut fields = Vec::with_capacity(projection.expr().len());
        for (expr, field) in projection.expr().iter().zip(projection.schema().fields()) {
            let Some(column) = self.column_of(&expr.expr) else {
                return Ok(None);
            };
            columns.push(column);
            let field = Field::new(&expr.alias, field.data_type().clone(), field.is_nullable());
            fields.push(field);
        }
        let schema = Arc::new(Schema::new(fields));
        Ok(Some(Arc::new(Self::new(
            self.partitions.clone(),
            columns.into(),
            schema,
        ))))
    }
}

#[cfg(test)]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use datafusion::physical_plan::displayable;

    use super::super::engine::context;
    use super::super::filter::Rows;
    use super::super::job::Job;
    use super::super::table::RowTable;
    use crate::{
        Meter, SpanBatchBuilder, SpanBuilder, SpanId, Store, StoreOptions, TeamId, TraceId,
    };

    /// The logical and the physical plan of an SQL text, a node a line.
    async fn plans(text: &str) -> (String, String) {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path(), StoreOptions::default()).unwrap();
        let team = store.team(&TeamId::new("acme").unwrap());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let now = u64::try_from(now.as_nanos()).unwrap();
        let span = SpanBuilder::new(TraceId([1; 16]), SpanId([1; 8]), "a").times(now, now);
        let batch = SpanBatchBuilder::new().span(span).build();
        assert_eq!(team.append(batch).unwrap().accepted, 1);
        let engine = &team.parts.queries;
        let execution = engine.begin(Meter::default()).unwrap();
        let job = Job::new(&team, team.snapshot_of_all(), &execution);
        let table = RowTable::new(Rows::Spans, &job).unwrap();
        let context = context(engine.state(), execution.memory.clone()).unwrap();
        context
            .register_table("spans", std::sync::Arc::new(table))
            .unwrap();
        let frame = context.sql(text).await.unwrap();
        let logical = frame.clone().into_optimized_plan().unwrap();
        let physical = frame.create_physical_plan().await.unwrap();
        (
            logical.display_indent().to_string(),
            displayable(physical.as_ref()).indent(false).to_string(),
        )
    }

    #[tokio::test]
    async fn attributes_become_columns_of_the_scan() {
        for text in [
            "select attributes['k'], count(*) from spans group by 1",
            "select name from spans where attributes['k'] = 'v'",
            "select max(duration) from spans where resource['k'] = 'v' group by attributes['n']",
        ] {
            let (_, plan) = plans(text).await;
            let scan = plan.lines().find(|line| line.contains("ScanExec")).unwrap();
            // The columns with all attributes are not read.
            let reads_all = scan.contains("[attributes") || scan.contains(" attributes");
            assert!(
                !reads_all && !scan.contains("resource_attributes"),
                "{plan}"
            );
        }
        let (_, all) = plans("select attributes, attributes['k'] from spans").await;
        assert!(all.contains("ScanExec"), "{all}");
    }

    #[tokio::test]
    async fn the_scan_is_told_of_conditions_on_attributes() {
        let text = "select name from spans where attributes['k'] = 'v' and trace_id = '01'";
        let (plan, _) = plans(text).await;
        let scan = plan
            .lines()
            .find(|line| line.contains("TableScan"))
            .unwrap();
        let filters = scan.split_once("partial_filters").unwrap().1;
        assert!(
            filters.contains("attribute(") && filters.contains("trace_id"),
            "{plan}"
        );
    }
}
