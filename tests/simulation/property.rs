//! Without faults a store answers what the model answers, whatever is done to
//! it: steps in any order, fewer of them when they fail.

use proptest::prelude::*;

use super::seeds::Script;

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 48,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_steps_are_answered_as_the_model_does(
        seed in any::<u64>(),
        steps in prop::collection::vec(any::<u64>(), 1..40),
    ) {
        let _guard = super::without_planted_bugs();
        let script = Script {
            seed,
            steps: Some(steps),
            has_faults: false,
            sabotage: None,
        };
        let failure = script.run().failure;
        prop_assert!(failure.is_none(), "{}", failure.unwrap_or_default());
    }
}
