//! An invoice as CSV (RFC 4180): a line for each of its lines, or for each part of one.

use std::fmt::Write;

use novacron_protocol::api::{Invoice, InvoiceLine, InvoiceStatus};
use novacron_protocol::ids::PlanName;
use novacron_protocol::time::Timestamp;
use novacron_protocol::vm::Labels;

/// Names of the columns.
const HEADER: [&str; 13] = [
    "period",
    "status",
    "project",
    "dimension",
    "plan",
    "rate_from",
    "price_micro_dollars",
    "price_per_units",
    "meter",
    "quantity",
    "base_units",
    "micro_dollars",
    "tags",
];

/// The invoice as text; lines end with CR LF.
pub fn of(invoice: &Invoice) -> String {
    let mut text = String::new();
    put(&mut text, HEADER.map(str::to_owned));
    for line in &invoice.lines {
        if line.allocations.is_empty() {
            let (quantity, money) = (line.quantity.to_string(), line.micro_dollars.to_string());
            put(&mut text, cells(invoice, line, quantity, money, String::new()));
        }
        for part in &line.allocations {
            let (quantity, money) = (part.quantity.to_string(), part.micro_dollars.to_string());
            put(&mut text, cells(invoice, line, quantity, money, tags(&part.tags)));
        }
    }
    text
}

fn cells(
    invoice: &Invoice,
    line: &InvoiceLine,
    quantity: String,
    micro_dollars: String,
    tags: String,
) -> [String; HEADER.len()] {
    let status = match invoice.status {
        InvoiceStatus::Draft => "draft",
        InvoiceStatus::Final => "final",
    };
    [
        invoice.period.clone(),
        status.to_owned(),
        line.project.to_string(),
        line.dimension.clone(),
        line.plan.as_ref().map(PlanName::to_string).unwrap_or_default(),
        line.rate_from.as_ref().map(Timestamp::to_string).unwrap_or_default(),
        line.price.micro_dollars.to_string(),
        line.price.per_units.to_string(),
        line.meter.to_string(),
        quantity,
        line.base_units.to_string(),
        micro_dollars,
        tags,
    ]
}

/// `key=value;key=value`; machines without any are `untagged`.
fn tags(tags: &Labels) -> String {
    if tags.is_empty() {
        return "untagged".to_owned();
    }
    tags.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(";")
}

fn put(text: &mut String, cells: impl IntoIterator<Item = String>) {
    for (place, cell) in cells.into_iter().enumerate() {
        if place > 0 {
            text.push(',');
        }
        // Writing to a text cannot fail.
        let _ = text.write_str(&quoted(&cell));
    }
    text.push_str("\r\n");
}

/// A cell; one that a spreadsheet would take for a formula begins with an apostrophe.
fn quoted(cell: &str) -> String {
    let is_formula = cell.starts_with(['=', '+', '@', '\t'])
        || (cell.starts_with('-') && cell.parse::<i128>().is_err());
    let cell = if is_formula { format!("'{cell}") } else { cell.to_owned() };
    if cell.contains(['"', ',', '\r', '\n', '\'']) {
        return format!("\"{}\"", cell.replace('"', "\"\""));
    }
    cell
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_quoted_where_they_need_to_be() {
        for (cell, written) in [
            ("plain", "plain"),
            ("a,b", "\"a,b\""),
            ("say \"hi\"", "\"say \"\"hi\"\"\""),
            ("=1+1", "\"'=1+1\""),
            ("-5", "-5"),
            ("-x", "\"'-x\""),
        ] {
            assert_eq!(quoted(cell), written);
        }
        let labels = Labels::from([("team".to_owned(), "red".to_owned())]);
        assert_eq!((tags(&labels), tags(&Labels::new())), ("team=red".into(), "untagged".into()));
    }
}
