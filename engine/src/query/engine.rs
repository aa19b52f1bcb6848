//! What all queries of a store share: functions, optimizer, settings.

use std::sync::Arc;

use datafusion::catalog::{
    CatalogProvider, CatalogProviderList, MemoryCatalogProvider, MemoryCatalogProviderList,
    MemorySchemaProvider,
};
use datafusion::execution::FunctionRegistry;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::{SessionState, SessionStateBuilder, SessionStateDefaults};
use datafusion::logical_expr::ScalarUDF;
use datafusion::logical_expr::planner::ExprPlanner;
use datafusion::optimizer::{Optimizer, OptimizerRule};
use datafusion::prelude::{SessionConfig, SessionContext};

use super::functions;
use super::planner::SpanPlanner;
use crate::error::Error;
use crate::options::QueryLimits;

/// Functions whose result can be far larger than their arguments; planning
/// computes them for constants, outside of every memory limit.
const EXPANDING: [&str; 4] = ["repeat", "lpad", "rpad", "replace"];

/// The settings that queries start from.
#[derive(Debug)]
pub(crate) struct Engine {
    state: SessionState,
    pub(crate) limits: QueryLimits,
}

impl Engine {
    /// Builds what every query needs, once.
    pub(crate) fn new(limits: &QueryLimits) -> Result<Self, Error> {
        let config = SessionConfig::new()
            .with_information_schema(false)
            .with_target_partitions(limits.threads.max(1));
        let mut state = SessionStateBuilder::new()
            .with_config(config)
            .with_scalar_functions(scalar_functions())
            .with_aggregate_functions(
                datafusion::functions_aggregate::all_default_aggregate_functions(),
            )
            .with_window_functions(datafusion::functions_window::all_default_window_functions())
            .with_expr_planners(expr_planners())
            .with_optimizer_rules(optimizer_rules())
            .build();
        state.register_function_rewrite(Arc::new(SpanPlanner))?;
        Ok(Self {
            state,
            limits: limits.clone(),
        })
    }

    /// The shared state, for expressions.
    pub(crate) fn state(&self) -> &SessionState {
        &self.state
    }

    /// A context for one query: with tables, memory and files of its own, of
    /// which there are none.
    pub(crate) fn context(&self) -> Result<SessionContext, Error> {
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(FairSpillPool::new(self.limits.memory_bytes)))
            .with_disk_manager_builder(
                DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled),
            )
            .build_arc()?;
        let names = &self.state.config_options().catalog;
        let catalog = MemoryCatalogProvider::new();
        let tables = Arc::new(MemorySchemaProvider::new());
        catalog.register_schema(&names.default_schema, tables)?;
        let catalogs = MemoryCatalogProviderList::new();
        catalogs.register_catalog(names.default_catalog.clone(), Arc::new(catalog));
        let state = SessionStateBuilder::new_from_existing(self.state.clone())
            .with_catalog_list(Arc::new(catalogs))
            .with_runtime_env(runtime)
            .build();
        Ok(SessionContext::new_with_state(state))
    }
}

fn scalar_functions() -> Vec<Arc<ScalarUDF>> {
    let all = datafusion::functions::all_default_functions();
    let is_bounded = |function: &Arc<ScalarUDF>| !EXPANDING.contains(&function.name());
    all.into_iter()
        .filter(is_bounded)
        .chain(functions::all())
        .collect()
}

/// DataFusion's rules, those that take single attributes out of expressions
/// last: conditions have been handed to the scan by then, whose indexes answer
/// them.
pub(super) fn optimizer_rules() -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    let is_last = |rule: &Arc<dyn OptimizerRule + Send + Sync>| {
        ["extract_leaf_expressions", "push_down_leaf_projections"].contains(&rule.name())
    };
    let (last, mut rules): (Vec<_>, Vec<_>) = Optimizer::new().rules.into_iter().partition(is_last);
    rules.extend(last);
    rules
}

/// Ours first: they decide about attributes and ids.
fn expr_planners() -> Vec<Arc<dyn ExprPlanner>> {
    let defaults = SessionStateDefaults::default_expr_planners();
    std::iter::once(Arc::new(SpanPlanner) as _)
        .chain(defaults)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_divided_among_as_many_tasks_as_it_may_have() {
        for (threads, expected) in [(0, 1), (1, 1), (5, 5)] {
            let limits = QueryLimits {
                threads,
                ..QueryLimits::default()
            };
            let context = Engine::new(&limits).unwrap().context().unwrap();
            assert_eq!(context.state().config().target_partitions(), expected);
        }
    }
}
