//! What a filter over requests asks of their spans: `any(…)`, and the columns that mean
//! "some span has it".

use datafusion::common::Column;
use datafusion::logical_expr::Expr;
use spanstore_format::requests::RequestColumn;

use super::comparison::negate;
use super::lower::Lowering;
use super::syntax::{Comparison, Function, Name, Node, NodeKind};
use super::{FilterError, Rows};

/// A condition on spans that a request fulfils when one of its spans does. In the
/// expression of the filter a column stands for it, which is true or false.
#[derive(Debug, Clone)]
pub(in crate::query) struct SomeSpan {
    /// The condition, over the columns of spans.
    pub(in crate::query) condition: Expr,
    /// The columns of requests that it is over, when the filter names one of these.
    pub(in crate::query) columns: &'static [RequestColumn],
}

/// What no column's name begins with.
const PREFIX: &str = "any ";

impl SomeSpan {
    /// The number of the condition that a column of a filter stands for.
    pub(in crate::query) fn number(column: &Column) -> Option<usize> {
        column.name.strip_prefix(PREFIX)?.parse().ok()
    }
}

/// The columns by which a request is found when one of its spans has the value; with each
/// those that say what its spans have.
const OF_SPANS: [(RequestColumn, &[RequestColumn]); 4] = [
    (RequestColumn::Level, &[RequestColumn::Level]),
    (
        RequestColumn::Service,
        &[RequestColumn::Service, RequestColumn::Services],
    ),
    (
        RequestColumn::Resource,
        &[RequestColumn::Resource, RequestColumn::Resources],
    ),
    (RequestColumn::Function, &[RequestColumn::Function]),
];

/// Whether a column of requests asks for one of their spans.
pub(super) fn is_of_spans(column: &str) -> bool {
    OF_SPANS
        .iter()
        .any(|(of_spans, _)| of_spans.name() == column)
}

impl Lowering<'_> {
    /// The condition that a part of a filter over requests is, if it asks for spans.
    pub(super) fn of_some_span(&self, node: &Node) -> Result<Option<Expr>, FilterError> {
        if let NodeKind::SomeSpan(condition) = &node.kind {
            return self.some_span(condition, &[]).map(Some);
        }
        if let NodeKind::Call {
            function: Function::Search,
            ..
        } = &node.kind
        {
            return self.some_span(node, &[]).map(Some);
        }
        let Some((operand, columns)) = columns_of_spans(node) else {
            return Ok(None);
        };
        // What has another value in one span and the value in the next is not found by `!=`.
        let (asked, is_negated) = positive(node);
        let is_alone = matches!(operand.kind, NodeKind::Column(_));
        let some = self.some_span(&asked, if is_alone { columns } else { &[] })?;
        Ok(Some(negate(some, is_negated)))
    }

    fn some_span(
        &self,
        node: &Node,
        columns: &'static [RequestColumn],
    ) -> Result<Expr, FilterError> {
        let condition = self.over_spans().condition(node)?;
        let mut known = self.some_spans.borrow_mut();
        let name = format!("{PREFIX}{}", known.len());
        known.push(SomeSpan { condition, columns });
        Ok(Expr::Column(Column::new_unqualified(name)))
    }

    fn over_spans(&self) -> Self {
        Self::new(Rows::Spans, self.limits)
    }
}

/// The operand of a comparison, or the argument of a call, that names one of [`OF_SPANS`],
/// and what goes with it there.
fn columns_of_spans(node: &Node) -> Option<(&Node, &'static [RequestColumn])> {
    match &node.kind {
        NodeKind::Compare { left, right, .. } => named(left).or_else(|| named(right)),
        NodeKind::In { value, .. }
        | NodeKind::Between { value, .. }
        | NodeKind::Like { value, .. }
        | NodeKind::Matches { value, .. }
        | NodeKind::IsNull { value, .. } => named(value),
        NodeKind::Call { .. } => named(node),
        _ => None,
    }
}

fn named(node: &Node) -> Option<(&Node, &'static [RequestColumn])> {
    let names = |name: &Name| {
        let mut all = OF_SPANS.into_iter();
        all.find(|(column, _)| name.is(column.name()))
    };
    match &node.kind {
        NodeKind::Column(name) => names(name).map(|(_, columns)| (node, columns)),
        // `resource` of `has` is what attributes belong to.
        NodeKind::Call {
            function,
            arguments,
        } if *function != Function::Has => {
            let found = arguments.iter().find_map(named);
            found.map(|(_, columns)| (node, columns))
        }
        _ => None,
    }
}

/// A comparison without its negation, and whether it had one.
fn positive(node: &Node) -> (Node, bool) {
    let mut positive = node.clone();
    let is_negated = match &mut positive.kind {
        NodeKind::Compare { comparison, .. } if *comparison == Comparison::NotEqual => {
            *comparison = Comparison::Equal;
            true
        }
        // A request has no value when no span has one.
        NodeKind::IsNull { negated, .. } => {
            let asks_for_none = !*negated;
            *negated = true;
            asks_for_none
        }
        NodeKind::In { negated, .. }
        | NodeKind::Between { negated, .. }
        | NodeKind::Like { negated, .. }
        | NodeKind::Matches { negated, .. } => std::mem::take(negated),
        _ => false,
    };
    (positive, is_negated)
}
