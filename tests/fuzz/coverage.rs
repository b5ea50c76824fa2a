//! One target under libFuzzer. The name of the binary selects it.
#![no_main]

#[path = "../it/model.rs"]
mod model;
mod random;
#[expect(dead_code, reason = "not all of it is needed here")]
#[path = "../it/replay.rs"]
mod replay;
mod targets;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let target = targets::TARGETS.iter().find(|target| target.name == env!("CARGO_BIN_NAME"));
    (target.expect("each binary is a target").run)(input);
});
