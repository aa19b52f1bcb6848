//! stub
use datafusion::logical_expr::Expr;
use std::collections::BTreeSet;
/// stub
#[derive(Debug, Clone, thiserror::Error)]
#[error("stub")]
pub struct FilterError;
/// stub
#[derive(Debug, Clone, Default)]
pub struct FilterLimits;
/// stub
#[derive(Debug, Clone)]
pub struct Filter {
    expr: Expr,
}
impl Filter {
    /// stub
    pub fn parse(_: &str, _: &FilterLimits) -> Result<Self, FilterError> {
        Err(FilterError)
    }
    /// stub
    pub fn expr(&self) -> &Expr {
        &self.expr
    }
    /// stub
    pub fn columns(&self) -> BTreeSet<&str> {
        BTreeSet::new()
    }
}
