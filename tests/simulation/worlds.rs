//! The models that fit everything that was seen. There is one, unless a call
//! failed and nobody can tell yet what became of it.

use spanstore_test_support::model::{Change, Model};

/// At most so many models are followed.
const MOST: usize = 64;

/// The models that fit.
#[derive(Debug, Clone)]
pub(crate) struct Worlds(Vec<Model>);

impl Worlds {
    /// One model.
    pub(crate) fn new(model: Model) -> Self {
        Self(vec![model])
    }

    /// One of the models, for choosing what to do.
    pub(crate) fn any(&self) -> &Model {
        &self.0[0]
    }

    /// Does something to all models.
    pub(crate) fn each(&mut self, change: impl FnMut(&mut Model)) {
        self.0.iter_mut().for_each(change);
    }

    /// Keeps the models that fit something that was seen.
    ///
    /// # Errors
    /// Why the first does not, when none does.
    pub(crate) fn keep(
        &mut self,
        mut fits: impl FnMut(&mut Model) -> Result<(), String>,
    ) -> Result<(), String> {
        let mut first = None;
        self.0.retain_mut(|model| match fits(model) {
            Ok(()) => true,
            Err(error) => {
                first.get_or_insert(error);
                false
            }
        });
        match (self.0.is_empty(), first) {
            (true, Some(error)) => Err(error),
            _ => Ok(()),
        }
    }

    /// The power went: appends that were not synced are lost, from one on.
    pub(crate) fn lose_unsynced(&mut self) {
        let lost: Vec<Model> = self.0.iter().flat_map(Model::after_power_cut).collect();
        self.0.extend(lost);
    }

    /// Each change has happened or not.
    pub(crate) fn branch(&mut self, changes: &[Change]) {
        for change in changes {
            let with: Vec<Model> = self
                .0
                .iter()
                .cloned()
                .map(|mut model| {
                    model.apply(change);
                    model
                })
                .collect();
            self.0.extend(with);
            self.0.truncate(MOST);
        }
    }
}
