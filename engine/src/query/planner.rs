pub(super) fn planners() -> Vec<std::sync::Arc<dyn datafusion::logical_expr::planner::ExprPlanner>>
{
    vec![]
}
