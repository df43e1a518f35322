//! Usage, invoices, rates and the ledger.

use novacron_protocol::api::{
    CorrectionView, EntryView, Invoice, InvoiceLine, LedgerVerdict, PriceView, PricesView,
    RatesView, UsageRow, Whole, WindowView,
};
use novacron_protocol::ids::PlanName;
use novacron_protocol::usage::Meter;

use super::text::{labels, or_dash, or_nothing, table, word};
use super::{Fields, Row, Show};

/// Micro-dollars in one dollar.
const MICRO: u64 = 1_000_000;

impl Row for UsageRow {
    const HEADER: &'static [&'static str] = &["GROUP", "METER", "QUANTITY", "THAT IS"];

    fn row(&self) -> Vec<String> {
        let group = self.vm_name.as_ref().or(self.group.as_ref());
        vec![
            or_dash(group),
            self.meter.to_string(),
            self.quantity.to_string(),
            in_units(self.meter, self.quantity),
        ]
    }
}

/// A quantity in the unit that is billed, with two decimals.
pub(super) fn in_units(meter: Meter, quantity: Whole) -> String {
    let (base, unit) = match meter {
        Meter::VmSeconds => (3_600, " h"),
        Meter::SnapshotSeconds => (3_600, " h"),
        Meter::DiskByteSeconds => (3_600 << 30, " GiB h"),
        Meter::BytesMoved => (1 << 30, " GiB"),
        Meter::Migrations => return quantity.to_string(),
    };
    let hundredths = quantity.0.saturating_mul(100) / base;
    let sign = if hundredths < 0 { "-" } else { "" };
    let hundredths = hundredths.unsigned_abs();
    format!("{sign}{}.{:02}{unit}", hundredths / 100, hundredths % 100)
}

/// Micro-dollars as dollars.
pub(super) fn dollars(micro_dollars: i64) -> String {
    let sign = if micro_dollars < 0 { "-" } else { "" };
    let amount = micro_dollars.unsigned_abs();
    format!("{sign}{}.{:06}", amount / MICRO, amount % MICRO)
}

fn price(price: PriceView) -> String {
    let amount = format!("{}.{:06}", price.micro_dollars / MICRO, price.micro_dollars % MICRO);
    match price.per_units {
        1 => amount,
        units => format!("{amount}/{units}"),
    }
}

impl Show for Invoice {
    fn fields(&self) -> Fields {
        let header =
            ["PROJECT", "DIMENSION", "PLAN", "RATE FROM", "PRICE", "QUANTITY", "DOLLARS", "TAGS"];
        let totals = self
            .totals
            .iter()
            .map(|total| vec![total.project.to_string(), dollars(total.micro_dollars)]);
        vec![
            ("period", self.period.clone()),
            ("status", word(&self.status)),
            ("lines", table(&header, self.lines.iter().flat_map(lines)).trim_end().to_owned()),
            ("totals", table(&["PROJECT", "DOLLARS"], totals).trim_end().to_owned()),
            ("dollars", dollars(self.micro_dollars)),
            ("chain", or_nothing(self.chain.as_ref())),
        ]
    }
}

/// A line, or its parts, which sum to it: so the column of dollars adds up.
fn lines(line: &InvoiceLine) -> Vec<Vec<String>> {
    let row = |quantity, micro_dollars, tags: String| {
        vec![
            line.project.to_string(),
            line.dimension.clone(),
            or_dash(line.plan.as_ref().map(PlanName::as_str)),
            or_dash(line.rate_from),
            price(line.price),
            in_units(line.meter, quantity),
            dollars(micro_dollars),
            tags,
        ]
    };
    if line.allocations.is_empty() {
        return vec![row(line.quantity, line.micro_dollars, String::new())];
    }
    let parts = line.allocations.iter().map(|part| {
        let tags = if part.tags.is_empty() { "untagged".to_owned() } else { labels(&part.tags) };
        row(part.quantity, part.micro_dollars, tags)
    });
    parts.collect()
}

impl Show for RatesView {
    fn fields(&self) -> Fields {
        let cards = self.cards.iter().map(|card| {
            let PricesView { vm_hours, storage_gb, transfer_gb, snapshots, migrations } =
                card.prices;
            let prices = [vm_hours, storage_gb, transfer_gb, snapshots, migrations].map(price);
            let head = [card.plan.to_string(), card.valid_from.to_string(), or_dash(card.vms_max)];
            head.into_iter().chain(prices).collect()
        });
        let plans = self.plans.iter().map(|change| {
            vec![change.project.to_string(), change.plan.to_string(), or_dash(change.valid_from)]
        });
        let header = [
            "PLAN",
            "FROM",
            "VMS",
            "VM HOUR",
            "GIB HOUR",
            "GIB MOVED",
            "SNAPSHOT HOUR",
            "MIGRATION",
        ];
        vec![
            ("rates", table(&header, cards).trim_end().to_owned()),
            ("plans", table(&["PROJECT", "PLAN", "FROM"], plans).trim_end().to_owned()),
        ]
    }
}

impl Row for WindowView {
    const HEADER: &'static [&'static str] =
        &["WINDOW", "ENTRIES", "FIRST", "LAST", "SEALED", "CHAIN"];

    fn row(&self) -> Vec<String> {
        vec![
            self.window.to_string(),
            self.entries.to_string(),
            self.first_index.to_string(),
            self.last_index.to_string(),
            self.sealed_at.to_string(),
            self.chain.clone(),
        ]
    }
}

impl Row for EntryView {
    const HEADER: &'static [&'static str] = &[
        "ENTRY", "KIND", "VM", "PROJECT", "NODE", "METER", "QUANTITY", "USED", "CORRECTS", "REASON",
    ];

    fn row(&self) -> Vec<String> {
        let corrects = self.corrects.map(|place| format!("{} {}", place.window, place.index));
        vec![
            self.index.to_string(),
            word(&self.kind),
            self.vm.to_string(),
            self.project.to_string(),
            self.node.to_string(),
            self.meter.to_string(),
            self.quantity.to_string(),
            self.used.to_string(),
            or_dash(corrects),
            or_dash(self.reason.as_ref()),
        ]
    }
}

impl Show for CorrectionView {
    fn fields(&self) -> Fields {
        vec![
            ("window", self.reversal.window.to_string()),
            ("reversal", self.reversal.index.to_string()),
        ]
    }
}

impl Show for LedgerVerdict {
    fn fields(&self) -> Fields {
        let is_intact = if self.intact { "yes" } else { "NO" };
        vec![
            ("intact", is_intact.to_owned()),
            ("windows", self.windows.to_string()),
            ("entries", self.entries.to_string()),
            ("last", or_nothing(self.last.as_ref())),
            ("fault at", or_nothing(self.fault_at.as_ref())),
            ("fault", or_nothing(self.fault.as_ref())),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_and_money_are_written_for_people() {
        assert_eq!(in_units(Meter::VmSeconds, Whole(5_400)), "1.50 h");
        assert_eq!(in_units(Meter::VmSeconds, Whole(-5_400)), "-1.50 h");
        assert_eq!(in_units(Meter::BytesMoved, Whole(1 << 29)), "0.50 GiB");
        assert_eq!(in_units(Meter::Migrations, Whole(7)), "7");
        assert_eq!(dollars(3_879_002), "3.879002");
        assert_eq!(dollars(-5), "-0.000005");
        assert_eq!(price(PriceView { micro_dollars: 27_397, per_units: 1_000 }), "0.027397/1000");
    }
}
