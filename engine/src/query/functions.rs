pub(super) fn all() -> Vec<std::sync::Arc<datafusion::logical_expr::ScalarUDF>> {
    vec![]
}
