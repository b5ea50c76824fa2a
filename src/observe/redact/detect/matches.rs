//! What a pass over a text found: spans to be replaced.

/// One span of a text, in bytes, and why it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) class: &'static str,
    pub(crate) rule: &'static str,
}

/// The finds of one pass.
#[derive(Debug, Default)]
pub(crate) struct Matches {
    marks: Vec<Mark>,
}

impl Matches {
    pub(crate) fn push(&mut self, start: usize, end: usize, class: &'static str, rule: &'static str) {
        if start < end {
            self.marks.push(Mark { start, end, class, rule });
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.marks.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Mark> {
        self.marks.iter()
    }

    pub(crate) fn retain(&mut self, keep: impl FnMut(&Mark) -> bool) {
        self.marks.retain(keep);
    }

    pub(crate) fn clear(&mut self) {
        self.marks.clear();
    }

    /// Lets marks that touch one of `gaps` take in the word on its other side.
    pub(crate) fn widen(&mut self, bytes: &[u8], gaps: &[(usize, usize)]) {
        let is_word = |byte: &&u8| {
            byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'+' | b'/' | b'~')
        };
        // Up to where the text belongs to a mark already: nothing is looked at twice.
        let mut covered = 0;
        for mark in &mut self.marks {
            if mark.end <= covered {
                continue;
            }
            let mut before = gaps.partition_point(|(start, _)| *start < mark.start);
            while let Some((start, end)) = before.checked_sub(1).and_then(|at| gaps.get(at)).copied() {
                if end < mark.start || start < covered {
                    break;
                }
                let word = bytes.get(covered..start).unwrap_or_default();
                mark.start = start - word.iter().rev().take_while(is_word).count();
                before -= 1;
            }
            let behind = gaps.partition_point(|(_, end)| *end <= mark.end);
            for (start, end) in gaps.iter().skip(behind).copied() {
                if start > mark.end {
                    break;
                }
                let word = bytes.get(end..).unwrap_or_default();
                mark.end = end + word.iter().take_while(is_word).count();
            }
            covered = mark.end;
        }
        self.settle();
    }

    /// Puts the marks in the order of the text; of those that overlap the widest cover is kept.
    pub(crate) fn settle(&mut self) {
        self.marks.sort_by_key(|mark| (mark.start, std::cmp::Reverse(mark.end)));
        let mut settled: Vec<Mark> = Vec::with_capacity(self.marks.len());
        for mark in &self.marks {
            match settled.last_mut() {
                Some(last) if mark.start < last.end => last.end = last.end.max(mark.end),
                _ => settled.push(*mark),
            }
        }
        self.marks = settled;
    }
}
