//! The one source of chance.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A stream of random choices that depends on a seed alone.
#[derive(Debug, Clone)]
pub(crate) struct Chance(ChaCha8Rng);

const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// A number below `bound`; 0 when the bound is 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 {
            0
        } else {
            self.0.random_range(0..bound)
        }
    }

    /// Whether something happens that happens in so many cases of a thousand.
    pub(crate) fn per_mille(&mut self, cases: u64) -> bool {
        self.below(1_000) < cases
    }

    /// A number below `count`: `k` with a probability near 1/(k+1), as by
    /// Zipf's law.
    pub(crate) fn zipf(&mut self, count: usize) -> usize {
        let rank = ((count + 1) as f64).powf(self.0.random::<f64>());
        (rank as usize)
            .saturating_sub(1)
            .min(count.saturating_sub(1))
    }

    /// One of some things, each as likely as the others.
    pub(crate) fn pick<T: Copy + Default>(&mut self, things: &[T]) -> T {
        let index = self.below(things.len() as u64) as usize;
        things.get(index).copied().unwrap_or_default()
    }

    /// One of some things; their weights add up to 1,000.
    pub(crate) fn weighted<T: Copy + Default>(&mut self, things: &[(u64, T)]) -> T {
        let mut drawn = self.below(1_000);
        for (weight, thing) in things {
            if drawn < *weight {
                return *thing;
            }
            drawn -= weight;
        }
        T::default()
    }

    /// A duration in nanoseconds: most near the typical one, few much longer.
    pub(crate) fn duration(&mut self, typical_micros: u64) -> u64 {
        let uniform = self.0.random::<f64>();
        let factor = 0.6 - 0.4 * (1.0 - uniform).ln();
        (typical_micros as f64 * 1_000.0 * factor) as u64
    }

    /// Eight bytes that are not all zero.
    pub(crate) fn span_id(&mut self) -> Vec<u8> {
        self.0.random::<u64>().max(1).to_be_bytes().to_vec()
    }

    /// Sixteen bytes that are not all zero.
    pub(crate) fn trace_id(&mut self) -> Vec<u8> {
        self.0.random::<u128>().max(1).to_be_bytes().to_vec()
    }

    /// Lower-case letters and digits.
    pub(crate) fn letters(&mut self, count: usize) -> String {
        (0..count)
            .map(|_| char::from(self.pick(ALPHABET)))
            .collect()
    }

    /// Lower-case hexadecimal digits.
    pub(crate) fn hex(&mut self, count: usize) -> String {
        (0..count)
            .map(|_| char::from(self.pick(b"0123456789abcdef")))
            .collect()
    }
}
