//! Text for people: tables and lists of fields, aligned, without colours, so that they can be cut and compared.

use comfy_table::{ContentArrangement, Table, presets};
use novacron_protocol::size::display_size;
use novacron_protocol::vm::Labels;
pub use novacron_sdk::word;

/// Names and values of a thing.
pub type Fields = Vec<(&'static str, String)>;

/// A header and rows.
pub fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = bare();
    table.set_header(header.iter().copied());
    table.add_rows(rows);
    rendered(&mut table)
}

/// Fields, one a line; those without a value are left out.
pub fn fields(fields: &Fields) -> String {
    let mut table = bare();
    for (name, value) in fields.iter().filter(|(_, value)| !value.is_empty()) {
        table.add_row([*name, value.as_str()]);
    }
    rendered(&mut table)
}

fn bare() -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table
}

fn rendered(table: &mut Table) -> String {
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// A size, `-` for none.
pub fn size(bytes: u64) -> String {
    if bytes == 0 { "-".to_owned() } else { display_size(bytes) }
}

/// A value or `-`.
pub fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// A value or nothing, which leaves its field out.
pub fn or_nothing(value: Option<impl ToString>) -> String {
    value.map_or_else(String::new, |value| value.to_string())
}

/// `k=v,k=v`.
pub fn labels(labels: &Labels) -> String {
    labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_have_no_tail() {
        let rows = [
            vec!["a".to_owned(), "running".to_owned()],
            vec!["long-name".to_owned(), "-".to_owned()],
        ];
        assert_eq!(
            table(&["NAME", "STATE"], rows),
            "NAME       STATE\na          running\nlong-name  -\n"
        );
    }

    #[test]
    fn a_field_without_a_value_is_left_out() {
        let shown = fields(&vec![
            ("name", "a".into()),
            ("reason", String::new()),
            ("disks", "1\n2".into()),
        ]);
        assert_eq!(shown, "name   a\ndisks  1\n       2\n");
    }
}
