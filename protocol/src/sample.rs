//! What agents measured, on its way to the coordinators: on a stream of its own beside the session's, so that nothing that
//! has to arrive waits for it.
//!
//! ```text
//! agent ──Begin──► coordinator      the agent opens the stream once it is welcome (dwcp 3.1 and later)
//!       ◄──From──                    what the coordinator has; the agent sends what it remembers behind that
//!       ──Part──► … ──Part──►       each tick in parts, the last with the host's own values
//! ```
//!
//! Nothing is acknowledged. What is lost is lost: these are numbers for looking at, what is paid for is in the ledger.

use serde::{Deserialize, Serialize};

use crate::ids::VmId;
use crate::limits::{MACHINES_PER_NODE_MAX, SAMPLE_VALUES_MAX, SAMPLED_MACHINES_PER_PART_MAX};
use crate::time::Timestamp;
use crate::wire::codec::Message;

/// Seconds from one measurement to the next.
pub const TICK_S: u64 = 10;

/// Ticks that an agent remembers: ten minutes, for a coordinator that begins to lead.
pub const TICKS_REMEMBERED: usize = 60;

/// The minor version of the protocol from which on agents send samples.
pub const SINCE_MINOR: u16 = 1;

/// A moment at which everything is measured: a multiple of ten seconds of UTC.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Tick(pub u32);

impl Tick {
    /// The newest tick that is not behind a moment.
    pub fn of(moment: Timestamp) -> Self {
        Self(u32::try_from(moment.unix_ms / (TICK_S * 1000)).unwrap_or(u32::MAX))
    }

    /// When it is, in seconds since 1970.
    pub fn unix_s(self) -> u64 {
        u64::from(self.0) * TICK_S
    }

    /// When it is.
    pub fn at(self) -> Timestamp {
        Timestamp::from_unix_ms(self.unix_s() * 1000)
    }
}

/// One value of one metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// The metric's number; one that is not known is passed over.
    pub metric: u8,
    /// Which disk or network card; 0 where there is only one.
    pub device: u8,
    /// The value, in the metric's whole numbers.
    pub value: u64,
}

/// What was measured of one machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineSamples {
    /// The machine.
    pub vm: VmId,
    /// At most `SAMPLE_VALUES_MAX`.
    pub values: Vec<Sample>,
}

/// What was measured at one tick, or a part of that.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TickPart {
    /// When.
    pub tick: Tick,
    /// Of machines: at most `SAMPLED_MACHINES_PER_PART_MAX`.
    pub machines: Vec<MachineSamples>,
    /// Of the host itself: in the last part of a tick only, so whoever has it has the whole tick.
    pub host: Option<Vec<Sample>>,
}

impl TickPart {
    /// Whether it keeps the limits.
    pub fn is_bounded(&self) -> bool {
        let fits = |values: &Vec<Sample>| values.len() <= SAMPLE_VALUES_MAX;
        self.machines.len() <= SAMPLED_MACHINES_PER_PART_MAX
            && self.machines.iter().all(|machine| fits(&machine.values))
            && self.host.as_ref().is_none_or(fits)
    }
}

/// Cuts what was measured at a tick into parts. Machines beyond those that an agent may have, and values beyond the limit,
/// are left out.
pub fn parts(tick: Tick, mut machines: Vec<MachineSamples>, host: Vec<Sample>) -> Vec<TickPart> {
    machines.truncate(MACHINES_PER_NODE_MAX);
    for machine in &mut machines {
        machine.values.truncate(SAMPLE_VALUES_MAX);
    }
    let mut parts: Vec<TickPart> = machines
        .chunks(SAMPLED_MACHINES_PER_PART_MAX)
        .map(|machines| TickPart { tick, machines: machines.to_vec(), host: None })
        .collect();
    if parts.is_empty() {
        parts.push(TickPart { tick, ..TickPart::default() });
    }
    if let Some(last) = parts.last_mut() {
        last.host = Some(host.into_iter().take(SAMPLE_VALUES_MAX).collect());
    }
    parts
}

/// From the agent, on its stream of samples.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SampleMessage {
    /// The first one: what is the newest that the coordinator has?
    Begin,
    /// What was measured; ticks in order.
    Part(TickPart),
}

/// From the coordinator, on the same stream, once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SampleAnswer {
    /// It has everything up to this tick; 0 is nothing.
    From {
        /// The tick.
        behind: Tick,
    },
}

impl Message for SampleMessage {
    const VERSION: u16 = 1;
    /// 256 machines with 128 values of 10 bytes each, and the host.
    const BYTES_MAX: usize = 512 * 1024;
    const NAME: &'static str = "sample message";
}

impl Message for SampleAnswer {
    const VERSION: u16 = 1;
    const BYTES_MAX: usize = 64;
    const NAME: &'static str = "sample answer";
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::codec;

    fn machine(number: u128) -> MachineSamples {
        let value = |device| Sample { metric: 10, device, value: u64::MAX };
        let values = (0..=u8::MAX).map(value).collect();
        MachineSamples { vm: VmId(uuid::Uuid::from_u128(number)), values }
    }

    #[test]
    fn a_tick_is_ten_seconds() {
        let tick = Tick::of(Timestamp::from_unix_ms(1_767_225_609_999));
        assert_eq!(tick.at(), Timestamp::from_unix_ms(1_767_225_600_000));
        assert_eq!(Tick::of(tick.at()), tick);
        assert_eq!(Tick::of(Timestamp::from_unix_ms(u64::MAX)), Tick(u32::MAX));
    }

    #[test]
    fn parts_are_bounded_and_the_last_one_has_the_host() {
        let host = vec![Sample { metric: 1, device: 0, value: 7 }];
        let machines = (0..600).map(machine).collect();
        let parts = parts(Tick(5), machines, host.clone());
        assert_eq!(
            parts.iter().map(|part| part.machines.len()).collect::<Vec<_>>(),
            [256, 256, 88]
        );
        assert!(parts.iter().all(TickPart::is_bounded));
        for (index, part) in parts.into_iter().enumerate() {
            assert_eq!(part.host, (index == 2).then(|| host.clone()));
            assert!(codec::encode(&SampleMessage::Part(part)).is_ok());
        }
        let alone = super::parts(Tick(5), Vec::new(), host.clone());
        assert_eq!(alone, [TickPart { tick: Tick(5), machines: Vec::new(), host: Some(host) }]);
    }

    #[test]
    fn what_is_too_much_is_seen() {
        let too_long = TickPart { machines: vec![machine(1)], ..TickPart::default() };
        assert!(!too_long.is_bounded());
        let many = vec![MachineSamples { vm: machine(1).vm, values: Vec::new() }; 257];
        assert!(!TickPart { machines: many, ..TickPart::default() }.is_bounded());
    }

    #[test]
    fn golden_bytes() {
        let vm = VmId(uuid::Uuid::from_u128(0x0102));
        let values = vec![Sample { metric: 11, device: 1, value: 0x0304 }];
        let machines = vec![MachineSamples { vm, values }];
        let host = Some(vec![Sample { metric: 1, device: 0, value: 5 }]);
        let part = SampleMessage::Part(TickPart { tick: Tick(9), machines, host });
        let hex =
            |bytes: Vec<u8>| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let expected = [
            "0100",
            "01000000",
            "09000000",
            "0100000000000000",
            "1000000000000000",
            "00000000000000000000000000000102",
            "0100000000000000",
            "0b01",
            "0403000000000000",
            "01",
            "0100000000000000",
            "0100",
            "0500000000000000",
        ];
        assert_eq!(hex(codec::encode(&part).unwrap()), expected.concat());
        assert_eq!(hex(codec::encode(&SampleMessage::Begin).unwrap()), "010000000000");
        let answer = SampleAnswer::From { behind: Tick(2) };
        assert_eq!(hex(codec::encode(&answer).unwrap()), "01000000000002000000");
    }
}
