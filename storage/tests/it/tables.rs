//! Tables: they count after they were closed, and are computed again after anything else.

use std::fs;
use std::path::Path;

use novacron_storage::tables::{Table, Tables, TablesError};

const NODES: Table = Table(1);
const EVENTS: Table = Table(2);
const NONE: [(Table, &str, Option<&str>); 0] = [];

fn rows(tables: &Tables, table: Table) -> Vec<(String, String)> {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    tables.scan(table).map(|row| row.unwrap()).map(|(k, v)| (text(k), text(v))).collect()
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// What a caller does with its snapshot and log.
fn build(tables: &Tables) {
    tables
        .commit(
            b"1",
            [(NODES, "b", Some("two")), (NODES, "a", Some("one")), (EVENTS, "a", Some("x"))],
        )
        .unwrap();
    tables.commit(b"2", [(NODES, "b", None), (NODES, "c", Some("three"))]).unwrap();
}

fn assert_built(tables: &Tables) {
    assert_eq!(tables.applied().unwrap().unwrap(), b"2");
    assert_eq!(rows(tables, NODES), pairs(&[("a", "one"), ("c", "three")]));
    assert_eq!(rows(tables, EVENTS), pairs(&[("a", "x")]));
    assert_eq!(tables.get(NODES, b"c").unwrap().unwrap(), b"three");
    assert_eq!(tables.get(EVENTS, b"c").unwrap(), None);
}

fn built_and_closed(directory: &Path) {
    let tables = Tables::open(directory).unwrap();
    assert_eq!(tables.applied().unwrap(), None);
    build(&tables);
    assert_built(&tables);
    tables.close().unwrap();
}

#[test]
fn closed_tables_are_there_again() {
    let directory = tempfile::tempdir().unwrap();
    built_and_closed(directory.path());
    let (tables, reason) = Tables::open_or_rebuild(directory.path()).unwrap();
    assert!(reason.is_none(), "refused: {reason:?}");
    assert_built(&tables);
}

#[test]
fn wiped_tables_are_built_again() {
    let directory = tempfile::tempdir().unwrap();
    built_and_closed(directory.path());
    let tables = Tables::open(directory.path()).unwrap();
    tables.wipe().unwrap();
    assert_eq!(tables.applied().unwrap(), None);
    assert_eq!(rows(&tables, NODES), []);
    build(&tables);
    assert_built(&tables);
    tables.commit(b"3", NONE).unwrap();
    assert_eq!(tables.applied().unwrap().unwrap(), b"3");
}

#[test]
fn tables_that_were_not_closed_are_refused_and_rebuilt() {
    let directory = tempfile::tempdir().unwrap();
    built_and_closed(directory.path());
    drop(Tables::open(directory.path()).unwrap());
    assert!(matches!(Tables::open(directory.path()), Err(TablesError::NotClosed { .. })));
    let (tables, reason) = Tables::open_or_rebuild(directory.path()).unwrap();
    assert!(matches!(reason, Some(TablesError::NotClosed { .. })));
    assert_eq!(tables.applied().unwrap(), None);
    build(&tables);
    tables.close().unwrap();
    assert_built(&Tables::open(directory.path()).unwrap());
}

#[test]
fn damaged_tables_are_refused_and_rebuilt() {
    let directory = tempfile::tempdir().unwrap();
    built_and_closed(directory.path());
    let database = directory.path().join("sled/db");
    let mut bytes = fs::read(&database).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&database, &bytes).unwrap();
    assert!(matches!(Tables::open(directory.path()), Err(TablesError::Damaged(_))));
    let (tables, reason) = Tables::open_or_rebuild(directory.path()).unwrap();
    assert!(matches!(reason, Some(TablesError::Damaged(_))));
    build(&tables);
    assert_built(&tables);
}

#[test]
fn tables_in_use_are_neither_opened_nor_rebuilt() {
    let directory = tempfile::tempdir().unwrap();
    let tables = Tables::open(directory.path()).unwrap();
    build(&tables);
    let Err(TablesError::Disk(error)) = Tables::open_or_rebuild(directory.path()) else {
        panic!("two processes have the tables")
    };
    assert!(error.is_in_use());
    assert_built(&tables);
}
