//! What agents measured, in numbers about it: counted when somebody asks. The values themselves are the API's.

use std::fmt;

use novacron_metrics::moment::{Moment, whole};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use crate::samples::Samples;

/// Where the numbers are to be found.
#[derive(Debug)]
pub struct SampleNumbers(pub Samples);

impl Collector for SampleNumbers {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let numbers = self.0.numbers();
        let mut moment = Moment::new(encoder);
        moment.gauge(
            "novacron_sample_series",
            "Series of what agents measured that this member has in memory",
            whole(numbers.series),
        )?;
        for (name, help, count) in [
            (
                "novacron_samples",
                "Values that agents measured and this member noted",
                numbers.noted,
            ),
            (
                "novacron_samples_crowded_out",
                "Values that were not noted because there are too many series",
                numbers.crowded_out,
            ),
            (
                "novacron_sample_parts_untimely",
                "Parts of what a host measured at once that came too late, or are ahead of this member's clock",
                numbers.untimely,
            ),
            (
                "novacron_sample_parts_not_passed_on",
                "Parts of what a host measured at once that this member, leading, could not give to another one",
                numbers.not_passed_on,
            ),
            (
                "novacron_sample_writes_failed",
                "Attempts to write what agents measured to the disk that failed; they are repeated",
                numbers.not_written,
            ),
            (
                "novacron_sample_files_damaged",
                "Times that a part of a file of what agents measured could not be read",
                numbers.damaged,
            ),
        ] {
            moment.counter(name, help, count)?;
        }
        Ok(())
    }
}
