//! What a run appends: random batches, and such as were sent before.

use prost::Message;
use rand::Rng;
use rand::seq::IndexedRandom;
use spanstore::{Durability, Error, Month, SpanBatch};
use spanstore_test_support::model::append::{Answer, Batch, Decision};
use spanstore_test_support::model::facts::{self, Facts, Range};
use spanstore_test_support::model::recent::{Form, Remembered};
use spanstore_test_support::model::{Change, Model};

use super::run::{Outcome, Run};
use super::steps::{DAY, SECOND};

/// Batches that may be sent again.
const MOST_SENT: usize = 6;

impl Run {
    fn random_batch(&mut self, name: &str) -> Batch {
        let now = self.now();
        let spread = *[10 * SECOND, DAY, 40 * DAY]
            .choose(&mut self.random)
            .unwrap_or(&DAY);
        let month = Month::of(now);
        let (first, last) = match self.random.random_range(0..4) {
            // Both sides of the beginning of the month.
            0 => (month.start_nanos() - 3, month.start_nanos() + 3),
            // Around the end of the accepted window.
            1 => (now, now + 1_200 * SECOND),
            _ => (now - spread, now),
        };
        let range = Range {
            traces: self.setting.traces,
            first,
            last,
        };
        let earlier: Vec<Facts> = self
            .worlds
            .any()
            .teams
            .get(name)
            .map(|team| team.rows.iter().map(|row| row.facts.clone()).collect())
            .unwrap_or_default();
        let started = self.worlds.any().started_sessions(name, now);
        let mut spans: Vec<Facts> = Vec::new();
        for _ in 0..self.random.random_range(0..14) {
            let seen = [&spans, &earlier][self.random.random_range(0..2)].choose(&mut self.random);
            let again = seen.cloned().filter(|_| self.random.random_bool(0.15));
            spans.push(match again {
                // The same ids, perhaps with other contents.
                Some(mut facts) => {
                    if self.random.random_bool(0.3) {
                        facts.duration += 1;
                    }
                    facts
                }
                None => {
                    self.spans += 1;
                    let mut facts = Facts::random(&mut self.random, self.spans, range);
                    // Some are of sessions that were started.
                    if self.spans.is_multiple_of(2)
                        && facts.session.as_deref() == Some("session-2")
                        && let Some(id) = started.first()
                    {
                        facts.session = Some(id.clone());
                    }
                    facts
                }
            });
        }
        let key = self.random.random_bool(0.3).then(|| {
            if self.random.random_bool(0.6) {
                self.keys += 1;
            }
            format!(
                "key-{}",
                self.keys.saturating_sub(self.random.random_range(0..3))
            )
            .into_bytes()
        });
        let forms = [Form::Typed, Form::Protobuf, Form::Json];
        Batch {
            spans,
            form: forms[self.random.random_range(0..forms.len())],
            is_any_time: self.random.random_bool(0.5),
            key,
        }
    }

    /// A batch, perhaps one that was sent before, as collectors do.
    fn any_batch(&mut self, name: &str) -> Batch {
        let mut batch = self.random_batch(name);
        if self.random.random_bool(0.25)
            && let Some(sent) = self.sent.choose(&mut self.random)
        {
            let key = match self.random.random_range(0..3) {
                0 => batch.key,
                _ => sent.key.clone(),
            };
            batch = Batch {
                key,
                ..sent.clone()
            };
        }
        self.sent.push(batch.clone());
        if self.sent.len() > MOST_SENT {
            self.sent.remove(0);
        }
        batch
    }

    pub(crate) fn append(&mut self) -> Outcome {
        self.disk.set_activity("append");
        let name = self.any_team();
        let batch = self.any_batch(&name);
        let request = facts::request(&batch.spans);
        let body = match batch.form {
            Form::Typed => Ok(SpanBatch::from_otlp(request)),
            Form::Protobuf => SpanBatch::from_otlp_protobuf(&request.encode_to_vec()),
            Form::Json => {
                let text = spanstore::otlp::json::encode(&request).into_bytes();
                SpanBatch::from_otlp_json(&text)
            }
        };
        let mut body = body.map_err(|error| format!("a body of ours: {error}"))?;
        if batch.is_any_time {
            body = body.any_time();
        }
        if let Some(key) = &batch.key {
            body = body.with_idempotency_key(key.clone());
        }
        let key = batch.key.as_ref().map(|key| String::from_utf8_lossy(key));
        self.tell(format!(
            "{name}: append {} spans, {:?}, key {key:?}",
            batch.spans.len(),
            batch.form
        ));
        let now = self.times();
        let decide =
            |model: &Model| [true, false].map(|trusts| model.decide(&name, &batch, now, trusts));
        let change = |rows, remembered| Change::Append {
            team: name.clone(),
            rows,
            remembered,
        };
        match self.handle(&name).append(body) {
            Ok(receipt) => {
                let found = Answer::from(&receipt);
                let is_synced = receipt.durability == Durability::Sync;
                let again = if found.repeated { ", again" } else { "" };
                self.tell(format!(
                    "  {} of {}{again}",
                    found.accepted,
                    batch.spans.len()
                ));
                self.worlds.keep(|model| {
                    let decided = decide(model);
                    let fits = decided
                        .iter()
                        .find(|one| one.answer.as_ref() == Some(&found));
                    let Some(decision) = fits.cloned() else {
                        return Err(format!(
                            "receipt {found:?}, expected {:?}",
                            decided[0].answer
                        ));
                    };
                    model.apply(&change(decision.rows, decision.remembered));
                    if is_synced {
                        model.synced();
                    }
                    Ok(())
                })
            }
            Err(Error::IdempotencyKeyReused { .. }) => {
                self.tell("  its key came with other content");
                self.worlds.keep(|model| {
                    let fits = decide(model).iter().any(|one| one.answer.is_none());
                    fits.then_some(())
                        .ok_or_else(|| "the key is not known".to_owned())
                })
            }
            Err(error) => {
                self.excuse("append", &error)?;
                // Promised: then nothing of it is stored.
                if matches!(error, Error::NoSpace { .. }) {
                    return Ok(());
                }
                let mut decided: Vec<Decision> = Vec::new();
                self.worlds.each(|model| {
                    for decision in decide(model) {
                        if !decided.contains(&decision) {
                            decided.push(decision);
                        }
                    }
                });
                for decision in decided {
                    self.tell(format!(
                        "  perhaps {} rows: {:?}",
                        decision.rows.len(),
                        decision.answer
                    ));
                    if decision.rows.is_empty() {
                        // Nothing is to be seen of it: no world is ruled out by it.
                        let remembered = decision.remembered.into_iter();
                        let remembered = remembered.map(Remembered::doubtful).collect();
                        let change = change(Vec::new(), remembered);
                        self.worlds.each(|model| model.apply(&change));
                    } else {
                        self.unknown
                            .push(change(decision.rows, decision.remembered));
                    }
                }
                Ok(())
            }
        }
    }
}
