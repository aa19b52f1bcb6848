//! Keys of attributes, counted.

use std::collections::BTreeSet;
use std::sync::Arc;

use hashbrown::hash_map::EntryRef;
use hashbrown::{HashMap, HashSet};
use spanstore_format::segment::promotion::Owner;
use spanstore_format::segment::promotion::access::{Aspect, Attribute};
use spanstore_format::span::attribute::{ValueType, keys};

use super::{AttributeKey, AttributeKeys};
use crate::error::Error;
use crate::query::suggest::Prefix;
use crate::read::interrupt::{Held, Interrupt};

/// What was counted of a key.
#[derive(Debug, Default)]
pub(super) struct OfKey {
    pub(super) spans: u64,
    pub(super) types: BTreeSet<ValueType>,
    /// The message in which it was seen last, by its number.
    message: u64,
}

/// Keys, counted.
pub(super) struct Counted {
    pub(super) prefix: Arc<Prefix>,
    of_spans: HashMap<String, OfKey>,
    of_resources: HashMap<String, OfKey>,
    /// How many messages were looked at.
    messages: u64,
    unread_spans: u64,
    /// The keys that no unread span has; none where all were read.
    certain: Option<HashSet<String>>,
    /// Memory of the keys, in bytes, about.
    bytes: usize,
    held: Growing,
}

/// What accounts for memory that grows.
#[derive(Default)]
pub(super) struct Growing {
    bytes: usize,
    held: Option<Held>,
}

impl Growing {
    /// Accounts for so many bytes at least.
    pub(super) fn hold(&mut self, bytes: usize, interrupt: &dyn Interrupt) -> Result<(), Error> {
        if bytes > self.bytes {
            self.held = None;
            self.bytes = bytes.next_multiple_of(HELD_STEP);
            self.held = Some(interrupt.hold_bytes(self.bytes)?);
        }
        Ok(())
    }
}

/// Memory of a key beside its bytes, about.
const KEY_BYTES: usize = 2 * size_of::<(String, OfKey)>();

/// Memory is accounted for in steps of so many bytes.
const HELD_STEP: usize = 64 << 10;

impl Counted {
    pub(super) fn new(prefix: &Arc<Prefix>) -> Self {
        Self {
            prefix: Arc::clone(prefix),
            of_spans: HashMap::new(),
            of_resources: HashMap::new(),
            messages: 0,
            unread_spans: 0,
            certain: None,
            bytes: 0,
            held: Growing::default(),
        }
    }

    /// What is known of a key; none of one that is not asked for.
    pub(super) fn of(&mut self, owner: Owner, key: &str) -> Option<&mut OfKey> {
        let known = match owner {
            Owner::Span => &mut self.of_spans,
            Owner::Resource => &mut self.of_resources,
        };
        match known.entry_ref(key) {
            EntryRef::Occupied(known) => Some(known.into_mut()),
            EntryRef::Vacant(_) if !self.prefix.is_of(key) => None,
            EntryRef::Vacant(new) => {
                self.bytes += KEY_BYTES + key.len();
                Some(new.insert(OfKey::default()))
            }
        }
    }

    /// Adds the keys of a message that so many spans have; `is_counted` says of which it is
    /// known already that they have them.
    pub(super) fn add_message(
        &mut self,
        owner: Owner,
        message: &[u8],
        spans: u64,
        is_counted: impl Fn(&str) -> bool,
    ) {
        self.messages += 1;
        let number = self.messages;
        for (key, value) in keys(message, owner.field()) {
            if let Some(of_key) = self.of(owner, key)
                && of_key.message != number
            {
                of_key.message = number;
                if !is_counted(key) {
                    of_key.spans += spans;
                    of_key.types.insert(value);
                }
            }
        }
    }

    /// Adds what was counted elsewhere.
    pub(super) fn add(&mut self, other: Self) {
        let of_spans = other.of_spans.into_iter();
        let of_spans = of_spans.map(|(key, of_key)| (Owner::Span, key, of_key));
        let of_resources = other.of_resources.into_iter();
        let of_resources = of_resources.map(|(key, of_key)| (Owner::Resource, key, of_key));
        for (owner, key, of_key) in of_spans.chain(of_resources) {
            if let Some(known) = self.of(owner, &key) {
                known.spans += of_key.spans;
                known.types.extend(of_key.types);
            }
        }
    }

    /// Notes spans that are not looked at, which may have any key but some.
    pub(super) fn leave_out(&mut self, spans: u64, certain: HashSet<String>) {
        if spans > 0 {
            self.unread_spans += spans;
            self.certain = Some(match self.certain.take() {
                Some(known) => known.intersection(&certain).cloned().collect(),
                None => certain,
            });
        }
    }

    /// Accounts for the memory.
    pub(super) fn hold(&mut self, interrupt: &dyn Interrupt) -> Result<(), Error> {
        self.held.hold(self.bytes, interrupt)
    }

    /// The most frequent keys.
    pub(super) fn first(self, limit: usize) -> AttributeKeys {
        let Self {
            of_spans,
            of_resources,
            certain,
            unread_spans,
            ..
        } = self;
        let is_certain = |key: &str| {
            let certain = certain.as_ref();
            certain.is_none_or(|certain| certain.contains(key))
        };
        let key = |owner, key: String, of_key: OfKey| {
            let attribute = Attribute {
                owner,
                key,
                aspect: Aspect::Text,
            };
            AttributeKey {
                name: attribute.to_string(),
                is_exact: owner == Owner::Resource || is_certain(&attribute.key),
                owner,
                key: attribute.key,
                types: of_key.types.into_iter().collect(),
                spans: of_key.spans,
            }
        };
        let of_spans = of_spans.into_iter();
        let of_spans = of_spans.map(|(name, of_key)| key(Owner::Span, name, of_key));
        let of_resources = of_resources.into_iter();
        let of_resources = of_resources.map(|(name, of_key)| key(Owner::Resource, name, of_key));
        let found = of_spans.chain(of_resources).filter(|key| key.spans > 0);
        let mut keys: Vec<AttributeKey> = found.collect();
        let total = keys.len() as u64;
        keys.sort_unstable_by(|one, other| {
            let most = other.spans.cmp(&one.spans);
            most.then_with(|| (one.owner, &one.key).cmp(&(other.owner, &other.key)))
        });
        keys.truncate(limit);
        AttributeKeys {
            keys,
            total,
            unread_spans,
        }
    }
}
