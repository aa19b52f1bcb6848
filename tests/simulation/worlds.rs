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
    /// Why each does not, when none does.
    pub(crate) fn keep(
        &mut self,
        mut fits: impl FnMut(&mut Model) -> Result<(), String>,
    ) -> Result<(), String> {
        let mut errors: Vec<String> = Vec::new();
        self.0.retain_mut(|model| match fits(model) {
            Ok(()) => true,
            Err(error) => {
                if !errors.contains(&error) {
                    errors.push(error);
                }
                false
            }
        });
        if self.0.is_empty() && !errors.is_empty() {
            return Err(errors.join("\nor "));
        }
        Ok(())
    }

    /// The power went: appends that were not synced are lost, from one on.
    pub(crate) fn lose_unsynced(&mut self) {
        let lost: Vec<Model> = self.0.iter().flat_map(Model::after_power_cut).collect();
        self.0.extend(lost);
    }

    /// The number of the next row, the same in all models from now on.
    pub(crate) fn next_number(&mut self) -> u64 {
        let next = self.0.iter().map(Model::next_number).max().unwrap_or(0);
        self.each(|model| model.number_from(next));
        next
    }

    /// Models that nothing can tell apart but an append that comes again become
    /// one.
    pub(crate) fn merge(&mut self) {
        let mut merged: Vec<Model> = Vec::new();
        for model in self.0.drain(..) {
            match merged.iter_mut().find(|one| one.is_like(&model)) {
                Some(one) => one.merge(&model),
                None => merged.push(model),
            }
        }
        self.0 = merged;
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
