//! What all queries of a store share: functions, optimizer, settings.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use datafusion::catalog::{
    CatalogProvider, CatalogProviderList, MemoryCatalogProvider, MemoryCatalogProviderList,
    MemorySchemaProvider,
};
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::MemoryPool;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::{
    FunctionRegistry, SessionState, SessionStateBuilder, SessionStateDefaults, TaskContext,
};
use datafusion::logical_expr::ScalarUDF;
use datafusion::logical_expr::planner::ExprPlanner;
use datafusion::optimizer::{Optimizer, OptimizerRule};
use datafusion::prelude::{SessionConfig, SessionContext};

use super::functions;
use super::memory::{Budget, QueryPool};
use super::planner::SpanPlanner;
use super::plans::Plans;
use super::watch::Watch;
use super::workers::{Execution, Workers};
use crate::error::Error;
use crate::options::QueryLimits;
use crate::read::meter::Meter;

/// Functions whose result can be far larger than their arguments; planning
/// computes them for constants, outside of every memory limit.
const EXPANDING: [&str; 4] = ["repeat", "lpad", "rpad", "replace"];

/// What queries start from. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Engine(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Arc<SessionState>,
    limits: QueryLimits,
    memory: Arc<Budget>,
    /// Of SQL texts that came before.
    plans: Plans,
    /// Started by the first query: many a store is never asked any.
    workers: Mutex<Option<Arc<Workers>>>,
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
        let memory = Budget::new("QueryLimits::total_memory_bytes", limits.total_memory_bytes);
        Ok(Self(Arc::new(Shared {
            state: Arc::new(state),
            limits: limits.clone(),
            memory: Arc::new(memory),
            plans: Plans::new(),
            workers: Mutex::default(),
        })))
    }

    /// The shared state, for expressions.
    pub(super) fn state(&self) -> &Arc<SessionState> {
        &self.0.state
    }

    /// Plans of SQL texts that came before.
    pub(super) fn plans(&self) -> &Plans {
        &self.0.plans
    }

    /// Begins a query: its time runs from now on, and its cost is added up.
    pub(super) fn begin(&self, meter: Meter) -> Result<Execution, Error> {
        let limits = &self.0.limits;
        Ok(Execution {
            watch: Arc::new(Watch::start(limits.time, meter)),
            memory: Arc::new(QueryPool::new(limits.memory_bytes, &self.0.memory)),
            workers: self.workers()?,
        })
    }

    /// Waits for an event for some time, in any async runtime.
    pub(crate) async fn within(
        &self,
        time: Duration,
        event: impl Future<Output = ()>,
    ) -> Result<(), Error> {
        self.workers()?.within(time, event).await;
        Ok(())
    }

    fn workers(&self) -> Result<Arc<Workers>, Error> {
        let mut workers = self
            .0
            .workers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(workers) = &*workers {
            return Ok(Arc::clone(workers));
        }
        let started = Workers::start(self.0.limits.threads)
            .map_err(|error| Error::io("start threads for", Path::new("queries"), error))?;
        Ok(Arc::clone(workers.insert(Arc::new(started))))
    }
}

/// A context to plan one query in: with tables and files of its own, of which there are
/// none.
pub(super) fn context(
    state: &SessionState,
    memory: Arc<dyn MemoryPool>,
) -> Result<SessionContext, Error> {
    let names = &state.config_options().catalog;
    let catalog = MemoryCatalogProvider::new();
    let tables = Arc::new(MemorySchemaProvider::new());
    catalog.register_schema(&names.default_schema, tables)?;
    let catalogs = MemoryCatalogProviderList::new();
    catalogs.register_catalog(names.default_catalog.clone(), Arc::new(catalog));
    let state = SessionStateBuilder::new_from_existing(state.clone())
        .with_catalog_list(Arc::new(catalogs))
        .with_runtime_env(runtime(memory)?)
        .build();
    Ok(SessionContext::new_with_state(state))
}

/// What a plan runs in: with memory of its own, and no disk.
pub(super) fn task(
    state: &SessionState,
    memory: Arc<dyn MemoryPool>,
) -> Result<Arc<TaskContext>, Error> {
    let (config, none) = (state.config().clone(), String::new());
    let runtime = runtime(memory)?;
    // Functions are part of the plan.
    let task = TaskContext::new(
        None,
        none,
        config,
        HashMap::new(),
        HashMap::new(),
        HashMap::new(),
        HashMap::new(),
        runtime,
    );
    Ok(Arc::new(task))
}

fn runtime(memory: Arc<dyn MemoryPool>) -> Result<Arc<RuntimeEnv>, Error> {
    let no_disk = DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled);
    let runtime = RuntimeEnvBuilder::new()
        .with_memory_pool(memory)
        .with_disk_manager_builder(no_disk);
    Ok(runtime.build_arc()?)
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
            let engine = Engine::new(&limits).unwrap();
            let memory = engine.begin(Meter::default()).unwrap().memory;
            let context = context(engine.state(), memory).unwrap();
            assert_eq!(context.state().config().target_partitions(), expected);
        }
    }
}
