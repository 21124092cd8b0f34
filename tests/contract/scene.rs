//! What a station must provide for the checks.

use std::fmt::Debug;

use framelease::Station;

/// The meaning of a station's event for the checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An item, caused by [`Description::give`].
    Item,
    /// An error, caused by [`Description::fail`].
    Error,
    /// An event that may come in addition.
    Other,
}

/// An action for another thread.
pub type Task = Box<dyn FnOnce() + Send>;

/// A station and its surroundings.
pub trait Scene: Sized {
    /// The station.
    type Station: Station<Event: Debug>;

    /// How to cause the events that the checks wait for.
    const DESCRIPTION: Description<Self>;

    /// Returns `true` if this machine has what the scene needs. Otherwise prints what is missing.
    fn is_here() -> bool {
        true
    }

    /// Makes the station and its surroundings. The station does not have an event yet.
    fn new() -> Self;

    /// The station.
    fn station(&mut self) -> &mut Self::Station;

    /// Classifies an event.
    fn kind(event: &<Self::Station as Station>::Event) -> Kind;

    /// Takes an event that was received.
    fn keep(&mut self, event: <Self::Station as Station>::Event) {
        drop(event);
    }
}

/// How to make events happen to a station. `None`, with a comment, if the event cannot happen to it.
pub struct Description<S> {
    /// Makes one item appear, at once or soon.
    pub give: fn(&mut S),
    /// The most items that can wait to be received.
    pub most_waiting: usize,
    /// The number of items of a longer run. 1: it gives one item and ends.
    pub many: usize,
    /// Wake-ups without an event that an item may cause, such as handshakes and hang-ups.
    pub extra_wakes: usize,
    /// The most events that wait for a program that ignores them. It may ignore them if it only calls `dispatch`.
    /// `None` for a station whose purpose is to give items: those that wait keep its descriptor readable.
    pub most_ignored: Option<usize>,
    /// Makes the station report an error, at once or soon.
    pub fail: Option<fn(&mut S)>,
    /// Ends the stream, at once or soon.
    pub end: Option<fn(&mut S)>,
    /// Events that wait when the stream ends are still given.
    pub gives_before_end: bool,
    /// Submits until the station is full, and drops the item that comes back.
    pub fill: Option<fn(&mut S)>,
    /// Makes room after `fill`.
    pub make_room: Option<fn(&mut S)>,
    /// Returns an action of another thread that makes something possible: it ends a lease, reads a pipe, pushes a
    /// packet.
    pub elsewhere: Option<fn(&mut S) -> Task>,
    /// Makes the station lose its connection, report that, and connect again.
    pub restart: Option<fn(&mut S)>,
    /// Returns an action of another thread with the last lease, after the station was dropped.
    pub last_lease: Option<fn(&mut S) -> Task>,
    /// Clients that connect and send nothing.
    pub crowd: Option<Crowd<S>>,
    /// Drops the station while another process has copies of its descriptors. Panics if the other side does not see
    /// that.
    pub drop_is_seen: Option<fn(S)>,
}

/// Clients that connect and send nothing.
pub struct Crowd<S> {
    /// Connects until the backlog is full. Returns the number of new connections.
    pub knock: fn(&mut S) -> usize,
    /// Closes the connections.
    pub leave: fn(&mut S),
}
