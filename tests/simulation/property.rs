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

/// A step may seal rows and, since retention has let their month go, remove them.
#[test]
fn rows_that_a_step_seals_may_be_gone_after_it() {
    let _guard = super::without_planted_bugs();
    let script = Script {
        seed: 7_162_185_837_983_272_045,
        steps: Some(vec![
            15_909_686_259_819_457_662,
            9_347_646_833_524_790_346,
            14_627_840_637_978_394_155,
            10_518_291_850_675_042_027,
            2_296_910_910_573_448_968,
            3_041_761_048_801_167_433,
        ]),
        has_faults: false,
        sabotage: None,
    };
    let failure = script.run().failure;
    assert!(failure.is_none(), "{}", failure.unwrap_or_default());
}
