//! The interface through which a pump adds bytes to lines. The relay does not parse them; a room above implements
//! [`LineEditor`].

use crate::relay::chunk::{LineMark, Moment};

/// Reads the lines of one stream and adds bytes to some of them. A pump calls it between a read and a write, so it
/// allocates nothing and does not wait.
pub trait LineEditor: Send {
    /// Reads a whole line, without its newline. `read_at` is the time at which its last byte was read.
    fn edit(&mut self, line: &[u8], read_at: Moment) -> LineEdit<'_>;

    /// Counts a line that passes unread.
    fn passes(&mut self, why: UnreadLine);
}

/// The change of a line. The default leaves it as it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct LineEdit<'a> {
    /// The bytes that are added to the line, at this offset.
    pub insertion: Option<(usize, &'a [u8])>,
    /// The mark with which the observer gets the line.
    pub mark: Option<LineMark>,
}

/// Reason why a pump passes a line on before it is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnreadLine {
    TooLong,
    Incomplete,
}
