//! Which codes are wanted, as steps over bit planes.

/// Words of a block of rows that is worked on at a time.
const BLOCK_WORDS: usize = 64;
/// Bytes of such a block.
pub(super) const BLOCK_BYTES: usize = BLOCK_WORDS * 8;
const FALSE: usize = 0;
const TRUE: usize = 1;

/// A bit for each row of a block.
type Block = [u64; BLOCK_WORDS];

/// A decision diagram: whether a code is wanted, asked one bit after the other. Parts
/// that decide alike are there once.
#[derive(Debug)]
pub(super) struct Decision {
    /// After those that they lead to; the first one has the number 2.
    nodes: Vec<Node>,
    root: usize,
}

/// Goes on to `high` where the bit of the plane is 1, else to `low`: numbers of nodes,
/// 0 for no and 1 for yes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Node {
    plane: usize,
    low: usize,
    high: usize,
}

impl Decision {
    /// Of an answer for each code; of codes of `n` bits there are 2^n.
    pub(super) fn of(is_wanted: &[bool]) -> Self {
        let mut decision = Self {
            nodes: Vec::new(),
            root: FALSE,
        };
        decision.root = decision.add(is_wanted);
        decision
    }

    fn add(&mut self, is_wanted: &[bool]) -> usize {
        if !is_wanted.contains(&true) {
            return FALSE;
        }
        if !is_wanted.contains(&false) {
            return TRUE;
        }
        let (low, high) = is_wanted.split_at(is_wanted.len() / 2);
        let (low, high) = (self.add(low), self.add(high));
        if low == high {
            return low;
        }
        let plane = is_wanted.len().ilog2() as usize - 1;
        let node = Node { plane, low, high };
        let same = self.nodes.iter().position(|other| *other == node);
        same.unwrap_or_else(|| {
            self.nodes.push(node);
            self.nodes.len() - 1
        }) + 2
    }

    /// Whether the bits of a plane matter.
    pub(super) fn asks(&self, plane: usize) -> bool {
        self.nodes.iter().any(|node| node.plane == plane)
    }

    /// The rows that are wanted, a bit each, in the order of the planes' bits. All
    /// planes that matter have `bytes` bytes; of others nothing is read.
    pub(super) fn evaluate(&self, planes: &[&[u8]], bytes: usize) -> Vec<u8> {
        let mut results = vec![[0; BLOCK_WORDS]; self.nodes.len() + 2];
        if let Some(yes) = results.get_mut(TRUE) {
            yes.fill(u64::MAX);
        }
        let mut bits = vec![[0; BLOCK_WORDS]; planes.len()];
        let mut out = vec![0; bytes.next_multiple_of(BLOCK_BYTES)];
        for (number, out) in out.chunks_exact_mut(BLOCK_BYTES).enumerate() {
            for (block, plane) in bits.iter_mut().zip(planes) {
                if let Some(plane) = plane.get(number * BLOCK_BYTES..) {
                    load(plane, block);
                }
            }
            for (number, node) in self.nodes.iter().enumerate() {
                let (before, result) = results.split_at_mut(number + 2);
                let parts = bits.get(node.plane).zip(result.first_mut());
                let sides = before.get(node.low).zip(before.get(node.high));
                if let Some(((plane, result), (low, high))) = parts.zip(sides) {
                    choose(plane, low, high, result);
                }
            }
            let (out, _) = out.as_chunks_mut::<8>();
            for (out, word) in out
                .iter_mut()
                .zip(results.get(self.root).into_iter().flatten())
            {
                *out = word.to_le_bytes();
            }
        }
        out.truncate(bytes);
        out
    }
}

/// For each row `high` where the bit of the plane is 1, else `low`.
fn choose(plane: &Block, low: &Block, high: &Block, result: &mut Block) {
    let sides = low.iter().zip(high);
    for ((result, bits), (low, high)) in result.iter_mut().zip(plane).zip(sides) {
        *result = low ^ (bits & (low ^ high));
    }
}

/// Fills a block with the first of these bytes, and zeros behind them.
fn load(bytes: &[u8], block: &mut Block) {
    let mut last = [0; BLOCK_BYTES];
    let bytes = bytes.first_chunk().unwrap_or_else(|| {
        if let Some(begin) = last.get_mut(..bytes.len()) {
            begin.copy_from_slice(bytes);
        }
        &last
    });
    let (words, _) = bytes.as_chunks::<8>();
    for (to, from) in block.iter_mut().zip(words) {
        *to = u64::from_le_bytes(*from);
    }
}
