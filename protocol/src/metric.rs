//! What is measured of machines, hosts and regions over time: each metric has a word, a unit, and things that have it.
//!
//! On the wire and in stores a metric is its number and a value is a whole number; [`Metric::scale`] says how many of them
//! are one unit. Numbers are never used again, so a program that does not know one passes it over.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What can be measured.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum ResourceKind {
    /// A machine.
    Vm,
    /// A hypervisor host.
    Node,
    /// All hosts of a region together.
    Region,
}

impl ResourceKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Vm, Self::Node, Self::Region];

    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Vm => "vm",
            Self::Node => "node",
            Self::Region => "region",
        }
    }
}

/// How a value comes about.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum MetricKind {
    /// As it stands at a moment.
    Gauge,
    /// What a counter grew by, for each second since the moment before. A counter that began anew makes a gap.
    Rate,
}

/// Parts of an axis that has several, such as disks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Axis {
    One,
    Disk,
    Network,
}

macro_rules! metrics {
    ($($(#[doc = $doc:literal])* $name:ident = $number:literal, $word:literal, $unit:literal / $scale:literal, $kind:ident, $axis:ident,
        [$($of:ident),*];)*) => {
        /// Something that is measured.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Metric {
            $($(#[doc = $doc])* $name,)*
        }

        impl Metric {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Its number, for ever.
            pub fn number(self) -> u8 {
                match self { $(Self::$name => $number,)* }
            }

            /// Its word; ends with its unit where that is not obvious.
            pub fn word(self) -> &'static str {
                match self { $(Self::$name => $word,)* }
            }

            /// What one of it is.
            pub fn unit(self) -> &'static str {
                match self { $(Self::$name => $unit,)* }
            }

            /// What it says, in a sentence.
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc),*).trim_ascii(),)* }
            }

            /// How many of the whole numbers that are sent and kept are one unit.
            pub fn scale(self) -> u64 {
                match self { $(Self::$name => $scale,)* }
            }

            /// How its values come about.
            pub fn kind(self) -> MetricKind {
                match self { $(Self::$name => MetricKind::$kind,)* }
            }

            /// What has it.
            pub fn kinds_of_resources(self) -> &'static [ResourceKind] {
                match self { $(Self::$name => &[$(ResourceKind::$of,)*],)* }
            }

            fn axis(self) -> Axis {
                match self { $(Self::$name => Axis::$axis,)* }
            }
        }
    };
}

metrics! {
    /// Processors in use: of a machine by the process that runs it, of a host by everything on it.
    ProcessorUsed = 1, "processor_used", "processors" / 1000, Rate, One, [Vm, Node, Region];
    /// Processors that a host has.
    Processors = 2, "processors", "processors" / 1000, Gauge, One, [Node, Region];
    /// Programs that run or wait for a processor or a disk, as the mean of the last minute.
    Load = 3, "load", "programs" / 1000, Gauge, One, [Node, Region];
    /// Memory that cannot be given to a program any more.
    MemoryUsed = 4, "memory_used_bytes", "bytes" / 1, Gauge, One, [Node, Region];
    /// Memory that a host has.
    MemoryTotal = 5, "memory_total_bytes", "bytes" / 1, Gauge, One, [Node, Region];
    /// Memory of the host that the process of a machine occupies.
    MemoryResident = 6, "memory_resident_bytes", "bytes" / 1, Gauge, One, [Vm];
    /// Memory that a machine's guest was given.
    MemoryGiven = 7, "memory_given_bytes", "bytes" / 1, Gauge, One, [Vm];
    /// Room that is taken on the file system of a host's machines.
    DiskUsed = 8, "disk_used_bytes", "bytes" / 1, Gauge, One, [Node, Region];
    /// Room on the file system of a host's machines, taken or free.
    DiskTotal = 9, "disk_total_bytes", "bytes" / 1, Gauge, One, [Node, Region];
    /// Bytes that a guest reads from a disk.
    DiskReadBytes = 10, "disk_read_bytes_per_second", "bytes/s" / 1, Rate, Disk, [Vm];
    /// Bytes that a guest writes to a disk.
    DiskWrittenBytes = 11, "disk_written_bytes_per_second", "bytes/s" / 1, Rate, Disk, [Vm];
    /// Reads of a guest from a disk.
    DiskReads = 12, "disk_reads_per_second", "operations/s" / 1000, Rate, Disk, [Vm];
    /// Writes of a guest to a disk.
    DiskWrites = 13, "disk_writes_per_second", "operations/s" / 1000, Rate, Disk, [Vm];
    /// Bytes that come in: to a guest by its network card in a bridge, to a host by its own network devices.
    NetworkReceived = 14, "network_received_bytes_per_second", "bytes/s" / 1, Rate, Network, [Vm, Node, Region];
    /// Bytes that go out: of a guest by its network card in a bridge, of a host by its own network devices.
    NetworkSent = 15, "network_sent_bytes_per_second", "bytes/s" / 1, Rate, Network, [Vm, Node, Region];
    /// Machines whose process runs on a host.
    MachinesRunning = 16, "machines_running", "machines" / 1, Gauge, One, [Node, Region];
    /// Hosts of a region that have told something.
    Nodes = 17, "nodes", "nodes" / 1, Gauge, One, [Region];
}

impl Metric {
    /// The metric of a number, if this program knows it.
    pub fn of_number(number: u8) -> Option<Self> {
        Self::ALL.iter().copied().find(|metric| metric.number() == number)
    }

    /// The metric of a word.
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|metric| metric.word() == word)
    }

    /// Whether a resource can have it.
    pub fn is_of(self, kind: ResourceKind) -> bool {
        self.kinds_of_resources().contains(&kind)
    }

    /// The name of a device of a machine, where it has several: `disk0`, `net0`.
    pub fn device(self, kind: ResourceKind, index: u8) -> Option<String> {
        match (kind, self.axis()) {
            (ResourceKind::Vm, Axis::Disk) => Some(format!("disk{index}")),
            (ResourceKind::Vm, Axis::Network) => Some(format!("net{index}")),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn words_and_numbers_are_unlike_and_find_their_metric() {
        let words: BTreeSet<_> = Metric::ALL.iter().map(|metric| metric.word()).collect();
        let numbers: BTreeSet<_> = Metric::ALL.iter().map(|metric| metric.number()).collect();
        assert_eq!((words.len(), numbers.len()), (Metric::ALL.len(), Metric::ALL.len()));
        for metric in Metric::ALL {
            assert_eq!(Metric::of_word(metric.word()), Some(*metric));
            assert_eq!(Metric::of_number(metric.number()), Some(*metric));
            assert!(metric.meaning().ends_with('.') && metric.scale() > 0, "{metric:?}");
        }
        assert_eq!((Metric::of_word("nothing"), Metric::of_number(0)), (None, None));
    }

    #[test]
    fn a_region_has_what_its_hosts_have() {
        for metric in Metric::ALL {
            let of = |kind| metric.is_of(kind);
            let expected = of(ResourceKind::Node) || *metric == Metric::Nodes;
            assert_eq!(of(ResourceKind::Region), expected, "{metric:?}");
        }
    }

    #[test]
    fn devices_are_of_machines_only() {
        let device = |metric: Metric, kind| metric.device(kind, 2);
        assert_eq!(device(Metric::DiskReads, ResourceKind::Vm).as_deref(), Some("disk2"));
        assert_eq!(device(Metric::NetworkSent, ResourceKind::Vm).as_deref(), Some("net2"));
        assert_eq!(device(Metric::NetworkSent, ResourceKind::Node), None);
        assert_eq!(device(Metric::MemoryGiven, ResourceKind::Vm), None);
    }
}
