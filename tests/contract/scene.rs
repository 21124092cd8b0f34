//! What a station must show to be checked.

use std::fmt::Debug;

use framelease::Station;

/// What an event of a station is to the checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// What [`Description::give`] causes.
    Item,
    /// What [`Description::fail`] causes.
    Error,
    /// An event that may come beside them.
    Other,
}

/// Something to do on another thread.
pub type Task = Box<dyn FnOnce() + Send>;

/// A station and its surroundings.
pub trait Scene: Sized {
    /// The station.
    type Station: Station<Event: Debug>;

    /// How to cause what the checks look for.
    const DESCRIPTION: Description<Self>;

    /// Returns `true` if this machine has what the scene needs. Says what it has not.
    fn is_here() -> bool {
        true
    }

    /// Makes the station and its surroundings. There is nothing to receive yet.
    fn new() -> Self;

    /// The station.
    fn station(&mut self) -> &mut Self::Station;

    /// What an event is.
    fn kind(event: &<Self::Station as Station>::Event) -> Kind;

    /// Takes an event that was received.
    fn keep(&mut self, event: <Self::Station as Station>::Event) {
        drop(event);
    }
}

/// How to make things happen to a station. `None`, with a comment, is for what cannot happen to it.
pub struct Description<S> {
    /// Makes one item appear, at once or soon.
    pub give: fn(&mut S),
    /// The most items that can wait to be received.
    pub most_waiting: usize,
    /// The number of items of a longer run. 1: it gives one item and ends.
    pub many: usize,
    /// Wake-ups without an event that an item may cause: handshakes, hang-ups.
    pub extra_wakes: usize,
    /// The most events that wait for a program that ignores them, which it may if it only calls `dispatch`. `None` for
    /// a station whose purpose is to give items: those that wait keep its descriptor readable.
    pub most_ignored: Option<usize>,
    /// Makes the station report an error, at once or soon.
    pub fail: Option<fn(&mut S)>,
    /// Ends the stream, at once or soon.
    pub end: Option<fn(&mut S)>,
    /// What waits when the stream ends is still given.
    pub gives_before_end: bool,
    /// Submits until the station is full, and drops the item that comes back.
    pub fill: Option<fn(&mut S)>,
    /// Makes room after `fill`.
    pub make_room: Option<fn(&mut S)>,
    /// Returns what another thread does to make something possible: it ends a lease, reads a pipe, pushes a packet.
    pub elsewhere: Option<fn(&mut S) -> Task>,
    /// Loses what the station is connected to, reports that, and has it again.
    pub restart: Option<fn(&mut S)>,
    /// Returns what another thread does with the last lease, after the station was dropped.
    pub last_lease: Option<fn(&mut S) -> Task>,
    /// Clients that connect and say nothing.
    pub crowd: Option<Crowd<S>>,
    /// Drops the station while another process has copies of its descriptors. Panics if a peer does not see that.
    pub drop_is_seen: Option<fn(S)>,
}

/// Clients that connect and say nothing.
pub struct Crowd<S> {
    /// Connects until the backlog is full. Returns the number of new connections.
    pub knock: fn(&mut S) -> usize,
    /// Closes the connections.
    pub leave: fn(&mut S),
}
