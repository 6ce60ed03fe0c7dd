//! How a stream is spoiled.

/// A step of a stream's script. What it does to a connection lasts as long as that connection.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// Waits until a connection has brought as many frames of data.
    AfterFrames(u64),
    /// A frame of this text, whatever it is.
    Text(String),
    /// A frame `{"channel":"error","data":…}`.
    Error(String),
    /// Closes with a code.
    Close(u16),
    /// Cuts the connection without a word: clients see 1006.
    Drop,
    /// Brings no more data, but answers pings.
    Freeze,
    /// Brings data again.
    Thaw,
    /// Answers no more pings.
    Mute,
    /// Brings every frame twice, or no more.
    Duplicate(bool),
    /// Brings the next two frames in the wrong order.
    Swap,
    /// Refuses the next connection with 503.
    Refuse,
}
