//! The network between members and clients: packets in flight, and who cannot hear whom.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::client::{Ask, Told};
use crate::dice::Dice;
use crate::scenario::Weather;

/// Who can send and receive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A coordinator, by the number of the machine that it is on.
    Member(u64),
    /// A client.
    Client(usize),
    /// A host.
    Host(usize),
    /// Who adds and removes coordinators.
    Operator,
}

impl std::fmt::Display for Place {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Member(id) => write!(formatter, "m{id}"),
            Self::Client(number) => write!(formatter, "client {number}"),
            Self::Host(number) => write!(formatter, "host {number}"),
            Self::Operator => formatter.write_str("operator"),
        }
    }
}

/// The number of a call, which only its sender uses, so that it knows the answer.
pub type CallNumber = u64;

/// What travels.
#[derive(Debug, Clone)]
pub enum Content {
    /// Is there anybody?
    Hello(CallNumber),
    /// Yes.
    Welcome(CallNumber),
    /// A message of a member to another.
    Request(CallNumber, Bytes),
    /// What it was answered.
    Response(CallNumber, Bytes),
    /// A client or a host asks.
    Ask(CallNumber, Ask),
    /// A client or a host is told.
    Told(CallNumber, Told),
}

impl Content {
    /// For the course of events.
    pub fn word(&self) -> (&'static str, usize) {
        match self {
            Self::Hello(_) => ("hello", 0),
            Self::Welcome(_) => ("welcome", 0),
            Self::Request(_, bytes) => ("request", bytes.len()),
            Self::Response(_, bytes) => ("response", bytes.len()),
            Self::Ask(..) => ("ask", 0),
            Self::Told(..) => ("told", 0),
        }
    }
}

/// Something on its way.
#[derive(Debug, Clone)]
pub struct Packet {
    /// From whom.
    pub from: Place,
    /// To whom.
    pub to: Place,
    /// What.
    pub content: Content,
}

/// The shortest time that a packet travels: what a member sends cannot arrive while the others are still in the
/// past, see [`QUANTUM_MS`](crate::world::QUANTUM_MS).
const LATENCY_MS_MIN: u64 = crate::world::QUANTUM_MS;

/// Packets in flight, beyond which they are lost, as in a router: no run comes near it.
const PACKETS_MAX: usize = 100_000;

/// The network.
#[derive(Debug)]
pub struct Network {
    dice: Dice,
    weather: Weather,
    /// By the time of arrival, then in the order of sending.
    in_flight: BTreeMap<(u64, u64), Packet>,
    sent: u64,
    /// Who cannot be heard by whom, and how many partitions say so.
    cut: BTreeMap<(u64, u64), u32>,
    /// What became of packets.
    pub lost: u64,
    /// Packets that arrived twice.
    pub doubled: u64,
}

impl Network {
    /// An empty network.
    pub fn new(dice: Dice, weather: Weather) -> Self {
        let (in_flight, cut) = (BTreeMap::new(), BTreeMap::new());
        Self { dice, weather, in_flight, sent: 0, cut, lost: 0, doubled: 0 }
    }

    /// Other weather.
    pub fn set_weather(&mut self, weather: Weather) {
        self.weather = weather;
    }

    /// Sends something at a moment.
    pub fn send(&mut self, at_ms: u64, packet: Packet) {
        if self.is_cut(&packet) || self.dice.happens(self.weather.loss_permille) {
            self.lost += 1;
            return;
        }
        if self.dice.happens(self.weather.double_permille) {
            self.doubled += 1;
            self.take(at_ms, packet.clone());
        }
        self.take(at_ms, packet);
    }

    fn take(&mut self, at_ms: u64, packet: Packet) {
        let weather = &self.weather;
        let latency_ms = if self.dice.happens(weather.slow_permille) {
            self.dice.between(weather.latency_ms_max, weather.slow_ms_max)
        } else {
            self.dice.between(0, weather.latency_ms_max)
        };
        self.sent += 1;
        if self.in_flight.len() < PACKETS_MAX {
            self.in_flight.insert((at_ms + LATENCY_MS_MIN + latency_ms, self.sent), packet);
        }
    }

    /// What arrives until a moment.
    pub fn due(&mut self, now_ms: u64) -> Vec<Packet> {
        let later = self.in_flight.split_off(&(now_ms + 1, 0));
        let due = std::mem::replace(&mut self.in_flight, later);
        let (lost, arrived): (Vec<_>, Vec<_>) =
            due.into_values().partition(|packet| self.is_cut(packet));
        self.lost += lost.len() as u64;
        arrived
    }

    fn is_cut(&self, packet: &Packet) -> bool {
        match (packet.from, packet.to) {
            (Place::Member(from), Place::Member(to)) => self.cut.contains_key(&(from, to)),
            _ => false,
        }
    }

    /// From now on some members are not heard by others.
    pub fn cut(&mut self, ways: &BTreeSet<(u64, u64)>) {
        for way in ways {
            *self.cut.entry(*way).or_default() += 1;
        }
    }

    /// The end of a [`Network::cut`].
    pub fn mend(&mut self, ways: &BTreeSet<(u64, u64)>) {
        for way in ways {
            if let Some(cuts) = self.cut.get_mut(way) {
                *cuts -= 1;
                if *cuts == 0 {
                    self.cut.remove(way);
                }
            }
        }
    }

    /// The end of all cuts.
    pub fn mend_all(&mut self) {
        self.cut.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(from: u64, to: u64) -> Packet {
        Packet { from: Place::Member(from), to: Place::Member(to), content: Content::Hello(1) }
    }

    fn fair() -> Network {
        Network::new(Dice::new(1), Weather::FAIR)
    }

    #[test]
    fn nothing_arrives_within_the_quantum_in_which_it_was_sent() {
        let mut network = fair();
        for at_ms in (0..1000).step_by(100) {
            network.send(at_ms, packet(1, 2));
            assert!(network.due(at_ms + LATENCY_MS_MIN - 1).is_empty());
            assert_eq!(network.due(at_ms + 50).len(), 1);
        }
    }

    #[test]
    fn a_cut_way_is_cut_in_its_direction_until_all_cuts_are_mended() {
        let mut network = fair();
        let ways = BTreeSet::from([(1, 2)]);
        network.cut(&ways);
        network.cut(&ways);
        network.mend(&ways);
        network.send(0, packet(1, 2));
        network.send(0, packet(2, 1));
        let arrived = network.due(1000);
        assert_eq!(arrived.len(), 1);
        assert_eq!(arrived[0].to, Place::Member(1));
        network.mend(&ways);
        network.send(1000, packet(1, 2));
        assert_eq!(network.due(2000).len(), 1);
    }

    #[test]
    fn what_is_on_its_way_when_a_way_is_cut_is_lost() {
        let mut network = fair();
        network.send(0, packet(1, 2));
        network.cut(&BTreeSet::from([(1, 2)]));
        assert!(network.due(1000).is_empty());
        assert_eq!(network.lost, 1);
    }
}
