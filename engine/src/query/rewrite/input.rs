//! Projections and conditions between a node of a plan and the table.

use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;

use datafusion::common::DFSchemaRef;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::datasource::source_as_provider;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{Expr, LogicalPlan, TableScan};
use spanstore_format::span::table;

use crate::query::condition::{self, Compile};
use crate::query::filter::Rows;
use crate::query::table::RowTable;
use crate::read::condition::Condition;

/// Whether a scan is one of the table of spans: the rows that a recursion has found so far are
/// scanned too.
pub(in crate::query) fn is_spans(scan: &TableScan) -> bool {
    source_as_provider(&scan.source).is_ok_and(|provider| {
        let provider: &dyn Any = provider.as_ref();
        let table = provider.downcast_ref::<RowTable>();
        table.is_some_and(|table| table.rows == Rows::Spans)
    })
}

/// What lies between a node of a plan and the table.
pub(super) struct Input {
    /// Conditions over columns of the table.
    conditions: Vec<Expr>,
    /// The columns of the table that are read.
    pub(super) schema: DFSchemaRef,
    /// What the columns of the input are, when they are not those of the table.
    columns: Option<HashMap<String, Expr>>,
}

impl Input {
    pub(super) fn of(plan: &LogicalPlan) -> Option<Self> {
        match plan {
            // Its conditions are repeated above it.
            LogicalPlan::TableScan(scan) if scan.fetch.is_none() && is_spans(scan) => Some(Self {
                conditions: Vec::new(),
                schema: Arc::clone(&scan.projected_schema),
                columns: None,
            }),
            LogicalPlan::SubqueryAlias(alias) => Self::of(&alias.input),
            LogicalPlan::Filter(filter) => {
                let mut input = Self::of(&filter.input)?;
                let condition = input.over_table(&filter.predicate)?;
                input.conditions.push(condition);
                Some(input)
            }
            LogicalPlan::Projection(projection) => {
                let input = Self::of(&projection.input)?;
                let names = projection.schema.fields().iter().map(|field| field.name());
                let columns = names.zip(&projection.expr).map(|(name, expr)| {
                    let expr = input.over_table(expr)?;
                    Some((name.clone(), expr))
                });
                Some(Self {
                    columns: Some(columns.collect::<Option<_>>()?),
                    conditions: input.conditions,
                    schema: input.schema,
                })
            }
            _ => None,
        }
    }

    /// An expression over columns of the input as one over those of the table.
    pub(super) fn over_table(&self, expr: &Expr) -> Option<Expr> {
        let expr = expr.clone().unalias_nested().data;
        let Some(columns) = &self.columns else {
            return Some(expr);
        };
        let replaced = expr.transform_down(|expr| match &expr {
            Expr::Column(column) => match columns.get(&column.name) {
                Some(of_table) => Ok(Transformed::new(
                    of_table.clone(),
                    true,
                    TreeNodeRecursion::Jump,
                )),
                None => {
                    let message = format!("a projection without {column}");
                    Err(DataFusionError::Internal(message))
                }
            },
            _ => Ok(Transformed::no(expr)),
        });
        Some(replaced.ok()?.data)
    }

    /// The condition that holds for its rows.
    pub(super) fn condition(&self, compile: Compile<'_>) -> Option<Condition> {
        let conditions = self.conditions.iter();
        let conditions = conditions.map(|one| condition::of_filter(one, &[], table(), compile));
        let conditions: Result<Vec<Condition>> = conditions.collect();
        Some(Condition::And(conditions.ok()?))
    }
}
