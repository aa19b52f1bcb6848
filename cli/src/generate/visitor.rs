//! Who visits the application, and which build of it they see.

use super::catalog::{REGIONS, USER_AGENTS};
use super::chance::Chance;

/// Users that have an account.
const USERS: usize = 5_000;
/// Builds that production runs one after the other.
const PRODUCTION_DEPLOYMENTS: usize = 3;

/// A build of the application.
#[derive(Debug, Clone)]
pub(crate) struct Deployment {
    pub(crate) id: String,
    pub(crate) branch: &'static str,
    pub(crate) sha: String,
    pub(crate) environment: &'static str,
    pub(crate) host: String,
}

/// The builds: production's in their order, then previews.
pub(crate) fn deployments(chance: &mut Chance) -> Vec<Deployment> {
    let mut deployment = |branch, environment| {
        let name = chance.letters(9);
        Deployment {
            id: format!("dpl_{}", chance.letters(24)),
            branch,
            sha: chance.hex(40),
            environment,
            host: match environment {
                "production" => "www.acme-store.example".to_owned(),
                _ => format!("acme-store-{name}.preview.example"),
            },
        }
    };
    let mut all: Vec<_> = (0..PRODUCTION_DEPLOYMENTS)
        .map(|_| deployment("main", "production"))
        .collect();
    for branch in [
        "feature/new-checkout",
        "feature/gift-cards",
        "fix/cart-rounding",
    ] {
        all.push(deployment(branch, "preview"));
    }
    all
}

/// The place of production's build at a part of the period, from 0 to 1,000.
pub(crate) fn production_at(per_mille: u64) -> usize {
    (per_mille as usize * PRODUCTION_DEPLOYMENTS / 1_000).min(PRODUCTION_DEPLOYMENTS - 1)
}

/// A person in one browser, for one tracing session.
#[derive(Debug, Clone)]
pub(crate) struct Visitor {
    pub(crate) session_id: String,
    pub(crate) user_id: Option<String>,
    pub(crate) client_address: String,
    pub(crate) user_agent: &'static str,
    /// Place in [`REGIONS`].
    pub(crate) region: usize,
    /// Place of the preview that they look at; none is production.
    pub(crate) preview: Option<usize>,
    /// Requests until the session is stopped.
    pub(crate) requests_left: u64,
    /// Trace id and root span id of the request before.
    pub(crate) previous: Option<(Vec<u8>, Vec<u8>)>,
}

impl Visitor {
    pub(crate) fn new(chance: &mut Chance) -> Self {
        let person = chance.zipf(USERS);
        // Addresses of the blocks that are kept for documentation.
        let network = ["192.0.2", "198.51.100", "203.0.113"]
            .get(person % 3)
            .copied();
        let client_address = match network {
            Some(network) if !person.is_multiple_of(5) => {
                format!("{network}.{}", person / 3 % 250 + 1)
            }
            _ => format!("2001:db8:{:x}::{:x}", person % 97, person + 1),
        };
        Self {
            session_id: format!("ses_{}", chance.letters(20)),
            user_id: chance.per_mille(650).then(|| format!("user_{person:05}")),
            client_address,
            user_agent: USER_AGENTS
                .get(person % USER_AGENTS.len())
                .copied()
                .unwrap_or_default(),
            region: chance.zipf(REGIONS.len()),
            preview: chance
                .per_mille(80)
                .then(|| PRODUCTION_DEPLOYMENTS + chance.zipf(3)),
            requests_left: 2 + chance.below(16),
            previous: None,
        }
    }
}
