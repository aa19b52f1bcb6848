pub(super) fn of(_: &[datafusion::logical_expr::Expr]) -> crate::read::scan::Constraints {
    Default::default()
}
