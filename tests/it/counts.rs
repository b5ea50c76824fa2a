//! The comparison of counted instructions with those that are kept (`tests/bench`).

#[path = "../bench/counts.rs"]
mod compared;

use compared::Counts;

#[test]
fn a_count_that_is_worse_or_better_by_more_than_three_percent_is_named() {
    let kept = Counts::parse("# a comment\nstart\t1000\ncall\t1000\nread\t1000\ngone\t1\n").unwrap();
    let counted = Counts::parse("start\t1030\ncall\t1031\nread\t969\nnew\t7\n").unwrap();
    let differences = counted.differences(&kept);
    let begins = [
        "call: from 1000 to 1031 instructions, 3.1 % more: find the cause",
        "new: 7 instructions, and no count is kept",
        "read: from 1000 to 969 instructions, 3.1 % fewer: keep the new count",
        "gone: a count is kept, and it is not counted",
    ];
    assert_eq!(differences.len(), begins.len(), "{differences:#?}");
    for (difference, begin) in differences.iter().zip(begins) {
        assert!(difference.starts_with(begin), "{difference}");
    }
}

#[test]
fn counts_are_read_as_they_are_written() {
    let counts = Counts([("one call observed".to_owned(), 12_345)].into());
    assert_eq!(Counts::parse(&counts.text()), Ok(counts));
    assert!(Counts::parse("call 7").unwrap_err().ends_with("`call 7`"));
}
